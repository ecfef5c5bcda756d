/** What the streaming server connects its clients to. */
import { attach } from './container/attach.ts';
import { exec } from './container/exec.ts';
import type { CriParts } from './parts.ts';
import { portForward } from './sandbox/port-forward.ts';
import type { StreamingTargets } from './streaming/targets.ts';

export function streamingTargets(parts: CriParts): StreamingTargets {
  const { containers, sandboxes, runtimeOf, cgroups, scratchDir } = parts;
  return {
    exec: (ctx, request, io) => exec(ctx, { containers, runtimeOf, cgroups, scratchDir }, request, io),
    attach: (ctx, request, io) => attach(ctx, { containers }, request, io),
    portForward: (ctx, request, connection) => portForward(ctx, { sandboxes }, request, connection),
  };
}
