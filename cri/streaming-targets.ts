/** What the streaming server connects its clients to. */
import { exec } from './container/exec.ts';
import { Fault } from '#host/fault.ts';
import type { CriParts } from './parts.ts';
import type { StreamingTargets } from './streaming/targets.ts';

export function streamingTargets(parts: CriParts): StreamingTargets {
  const { containers, runtimeOf, cgroups, scratchDir } = parts;
  return {
    exec: (ctx, request, io) => exec(ctx, { containers, runtimeOf, cgroups, scratchDir }, request, io),
    attach: () => Promise.reject(new Fault('unimplemented', 'attach is not there yet')),
    portForward: () => Promise.reject(new Fault('unimplemented', 'port-forward is not there yet')),
  };
}
