/**
 * Where a pod is in its life on this node.
 *
 *     syncing ──ended, deleted, removed──▶ terminating ──stopped──▶ terminated ──cleaned──▶ finished ──removed──▶ (forgotten)
 *                                                                       ▲──────deleted──────┘
 *
 * A pod that ended by itself keeps its containers (for their logs) until it is deleted; then it is cleaned once more, with purge.
 */
export type PodWork =
  | { readonly name: 'syncing' }
  | { readonly name: 'terminating'; readonly graceSeconds: number; readonly purge: boolean; readonly gone: boolean }
  | { readonly name: 'terminated'; readonly purge: boolean; readonly gone: boolean }
  | { readonly name: 'finished'; readonly purged: boolean; readonly gone: boolean };

export type PodEvent =
  /** The API server marked it for deletion. A later, shorter grace wins; a longer one does not. */
  | { readonly type: 'deleted'; readonly graceSeconds: number }
  /** It is gone from where it was defined: nobody waits for its status. */
  | { readonly type: 'removed'; readonly graceSeconds: number }
  /** It reached a terminal phase or must not go on (deadline, eviction). */
  | { readonly type: 'ended'; readonly graceSeconds: number }
  | { readonly type: 'stopped' }
  | { readonly type: 'cleaned' };

export const initialWork: PodWork = { name: 'syncing' };

/** Nothing is left to do for the pod, and nobody will ask about it again. */
export const isForgettable = (work: PodWork): boolean => work.name === 'finished' && work.purged && work.gone;

export function nextWork(work: PodWork, event: PodEvent): PodWork {
  switch (event.type) {
    case 'deleted':
    case 'removed':
    case 'ended':
      return ending(work, event);
    case 'stopped':
      return work.name === 'terminating' ? { name: 'terminated', purge: work.purge, gone: work.gone } : work;
    case 'cleaned':
      return work.name === 'terminated' ? { name: 'finished', purged: work.purge, gone: work.gone } : work;
    default:
      return event satisfies never;
  }
}

function ending(work: PodWork, event: { type: 'deleted' | 'removed' | 'ended'; graceSeconds: number }): PodWork {
  const purge = event.type !== 'ended';
  const gone = event.type === 'removed';
  const graceSeconds = Math.max(1, event.graceSeconds);
  switch (work.name) {
    case 'syncing':
      return { name: 'terminating', graceSeconds, purge, gone };
    case 'terminating':
      return { name: 'terminating', graceSeconds: Math.min(work.graceSeconds, graceSeconds), purge: work.purge || purge, gone: work.gone || gone };
    case 'terminated':
      return { name: 'terminated', purge: work.purge || purge, gone: work.gone || gone };
    case 'finished':
      if (purge && !work.purged) return { name: 'terminated', purge, gone: work.gone || gone };
      return { ...work, gone: work.gone || gone };
    default:
      return work satisfies never;
  }
}
