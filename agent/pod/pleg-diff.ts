/** Two looks at the runtime → the pods in which something changed. Pure. */
import type { RuntimePod } from '../cri/observed.ts';

const signature = (pod: RuntimePod): string =>
  [...pod.sandboxes.map(({ id, ready }) => `${id}=${ready}`), ...pod.containers.map(({ id, state }) => `${id}=${state}`)].toSorted().join();

/** UIDs of pods that came, went or changed the state of anything. */
export function changedPods(before: ReadonlyMap<string, RuntimePod>, now: ReadonlyMap<string, RuntimePod>): string[] {
  const changed = [...now].filter(([uid, pod]) => {
    const old = before.get(uid);
    return old === undefined || signature(old) !== signature(pod);
  });
  const gone = [...before.keys()].filter((uid) => !now.has(uid));
  return [...changed.map(([uid]) => uid), ...gone];
}
