/** Which dead containers and sandboxes of a living pod may go. Pure. */
import type { RuntimePod } from '../cri/observed.ts';

/** Beside the newest instance of a container one dead one is kept, for `kubectl logs --previous` and lastState. */
const keptPerContainer = 2;

export function containerLeftovers(pod: RuntimePod): { containers: string[]; sandboxes: string[] } {
  const seen = new Map<string, number>();
  const containers: string[] = [];
  for (const container of pod.containers) {
    const count = (seen.get(container.name) ?? 0) + 1;
    seen.set(container.name, count);
    if (count > keptPerContainer && container.state === 'exited') containers.push(container.id);
  }
  const gone = new Set(containers);
  const inUse = new Set(pod.containers.filter(({ id }) => !gone.has(id)).map(({ sandboxId }) => sandboxId));
  const sandboxes = pod.sandboxes.slice(1).filter(({ id, ready }) => !ready && !inUse.has(id)).map(({ id }) => id);
  return { containers, sandboxes };
}
