/** Pods as their sources tell of them: the API server's watch and the static files of this node, in one stream of changes. */
import { isDeepStrictEqual } from 'node:util';
import { podUid } from '../kube/pod-facts.ts';
import type { Pod } from '../kube/types.ts';

export type SourceName = 'api' | 'file';

export type PodChange =
  /** New, or something of it that a worker must act on changed. */
  | { readonly type: 'wanted'; readonly pod: Pod }
  /** Only what we wrote ourselves (its status) changed. */
  | { readonly type: 'refreshed'; readonly pod: Pod }
  /** No longer defined anywhere. */
  | { readonly type: 'removed'; readonly pod: Pod };

/** What a source calls. `replace` tells everything it has; until every source has done that once, nothing is taken for an orphan. */
export interface PodSink {
  replace(pods: Pod[]): void;
  upsert(pod: Pod): void;
  remove(pod: Pod): void;
}

export class PodSources {
  readonly #missing: Set<SourceName>;
  readonly #pods = new Map<SourceName, Map<string, Pod>>();
  readonly #changed: (change: PodChange) => void;

  constructor(names: readonly SourceName[], changed: (change: PodChange) => void) {
    this.#missing = new Set(names);
    for (const name of names) this.#pods.set(name, new Map());
    this.#changed = changed;
  }

  /** Every source has told all it has at least once. */
  get allSeen(): boolean {
    return this.#missing.size === 0;
  }

  /** A source that does not exist has nothing more to say. */
  hasSeen(name: SourceName): boolean {
    return !this.#missing.has(name);
  }

  sink(name: SourceName): PodSink {
    const known = this.#pods.get(name) ?? new Map<string, Pod>();
    const remove = (uid: string): void => {
      const pod = known.get(uid);
      if (pod !== undefined && known.delete(uid)) this.#changed({ type: 'removed', pod });
    };
    const upsert = (pod: Pod): void => {
      const before = known.get(podUid(pod));
      known.set(podUid(pod), pod);
      this.#changed({ type: before !== undefined && isSameWish(before, pod) ? 'refreshed' : 'wanted', pod });
    };
    return {
      upsert,
      remove: (pod) => remove(podUid(pod)),
      replace: (pods) => {
        this.#missing.delete(name);
        const uids = new Set(pods.map(podUid));
        for (const uid of known.keys()) if (!uids.has(uid)) remove(uid);
        pods.forEach(upsert);
      },
    };
  }
}

/** Nothing differs but the status and the API server's own bookkeeping. */
function isSameWish(one: Pod, other: Pod): boolean {
  const wish = ({ metadata, spec }: Pod): unknown => [
    metadata?.labels, metadata?.annotations, metadata?.deletionTimestamp, metadata?.deletionGracePeriodSeconds, metadata?.generation, spec,
  ];
  return isDeepStrictEqual(wish(one), wish(other));
}
