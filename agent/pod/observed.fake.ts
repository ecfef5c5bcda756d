/** Pods and what a runtime has of them, in a few words, for tests of pure parts. */
import { containerHash } from '../container-config/hash.ts';
import type { ObservedContainer, ObservedPod, ObservedSandbox, RunState } from '../cri/observed.ts';
import type { Container, Pod } from '../kube/types.ts';

export const image = 'demo:1';

export const container = (name: string, more: Partial<Container> = {}): Container => ({ name, image, ...more });

export const podOf = (spec: Partial<NonNullable<Pod['spec']>> = {}, metadata: Partial<NonNullable<Pod['metadata']>> = {}): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', namespace: 'ns', uid: 'u1', ...metadata },
  spec: { restartPolicy: 'Always', containers: [container('c')], ...spec },
});

export const sandboxOf = (more: Partial<ObservedSandbox> = {}): ObservedSandbox => ({
  id: 's0', attempt: 0, ready: true, createdAtNs: 1n, hostNetwork: false, ips: ['10.0.0.1'], ...more,
});

/** Times are seconds; the later of two instances is made with a greater `at`. */
export function instance(
  name: string, state: RunState, more: { exitCode?: number; at?: number; sandboxId?: string; restartCount?: number; image?: string; reason?: string; id?: string } = {},
): ObservedContainer {
  const { exitCode = 0, at = 10, sandboxId = 's0', restartCount = 0 } = more;
  const ns = BigInt(at) * 1_000_000_000n;
  return {
    id: more.id ?? `${name}-${at}`, sandboxId, name, state, exitCode,
    createdAtNs: ns,
    startedAtNs: state === 'created' ? 0n : ns,
    finishedAtNs: state === 'exited' ? ns + 1_000_000_000n : 0n,
    reason: more.reason ?? (state === 'exited' ? (exitCode === 0 ? 'Completed' : 'Error') : ''),
    message: '', image, imageRef: 'demo@sha256:00', logPath: '', mounts: [], user: undefined,
    notes: { hash: containerHash({ name, image: more.image ?? image }), restartCount, terminationMessagePath: '', terminationMessagePolicy: 'File', terminationGraceSeconds: undefined },
  };
}

/** Newest first, as the runtime is read. */
export const observedOf = (containers: readonly ObservedContainer[] = [], sandboxes: readonly ObservedSandbox[] = [sandboxOf()]): ObservedPod => ({
  uid: 'u1',
  sandboxes,
  containers: containers.toSorted((one, other) => Number(other.createdAtNs - one.createdAtNs)),
});
