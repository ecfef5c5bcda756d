/** postStart and preStop handlers. Source: kubelet pkg/kubelet/lifecycle/handlers.go. */
import { setTimeout as sleep } from 'node:timers/promises';
import { withTimeout, type Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import type { Runtime } from '../cri/runtime.ts';
import type { Container } from '../kube/types.ts';

type Handler = NonNullable<NonNullable<Container['lifecycle']>['preStop']>;

export interface HookPlace {
  readonly container: Container;
  readonly containerId: string;
  /** Where httpGet goes when it names no host. */
  readonly podIP: string | undefined;
}

/** Throws Fault when the handler fails or takes longer than `timeoutMs`. */
export async function runHook(ctx: Ctx, runtime: Pick<Runtime, 'execSync'>, handler: Handler, place: HookPlace, timeoutMs: number | undefined): Promise<void> {
  const bounded = timeoutMs === undefined ? ctx : withTimeout(ctx, timeoutMs);
  if (handler.exec !== undefined) {
    const seconds = timeoutMs === undefined ? 0 : Math.max(1, Math.ceil(timeoutMs / 1000));
    const { exitCode, stdout, stderr } = await runtime.execSync(bounded, place.containerId, handler.exec.command ?? [], seconds);
    if (exitCode !== 0) throw new Fault('internal', `command exited with ${exitCode}: ${Buffer.concat([stdout, stderr]).toString('utf8').slice(0, 1024)}`);
    return;
  }
  if (handler.sleep !== undefined) {
    await sleep(handler.sleep.seconds * 1000, undefined, { signal: bounded.signal });
    return;
  }
  if (handler.httpGet !== undefined) return httpGet(bounded, handler.httpGet, place);
  throw new Fault('invalid', 'invalid handler: neither exec, httpGet nor sleep');
}

async function httpGet(ctx: Ctx, get: NonNullable<Handler['httpGet']>, place: HookPlace): Promise<void> {
  const host = get.host ?? place.podIP;
  if (host === undefined || host === '') throw new Fault('unavailable', 'the pod has no IP address for an httpGet handler');
  const port = portOf(get.port, place.container);
  const bracketed = host.includes(':') ? `[${host}]` : host;
  const url = new URL(get.path ?? '/', `${(get.scheme ?? 'HTTP').toLowerCase()}://${bracketed}:${port}`);
  const headers = new Headers({ 'user-agent': 'kube-lifecycle/1.37', accept: '*/*' });
  for (const { name, value } of get.httpHeaders ?? []) headers.append(name, value);
  const answer = await fetch(url, { headers, signal: ctx.signal, redirect: 'follow' });
  await answer.body?.cancel();
  if (answer.status >= 400) throw new Fault('internal', `HTTP handler answered with status ${answer.status}`);
}

function portOf(port: unknown, container: Container): number {
  const named = (container.ports ?? []).find(({ name }) => name !== undefined && name === port)?.containerPort;
  const number = named ?? Number(port);
  if (!Number.isInteger(number) || number < 1 || number > 65_535) throw new Fault('invalid', `couldn't find port: ${JSON.stringify(port)} in container ${container.name}`);
  return number;
}
