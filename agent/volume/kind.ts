/** What a kind of volume needs to know and gives back. */
import type { Ctx } from '#host/ctx.ts';
import type { PodPlace } from '../container-config/downward.ts';
import type { ObjectSource } from '../kube/object-cache.ts';
import type { TokenSource } from '../kube/token-requests.ts';
import type { Pod } from '../kube/types.ts';

/** Where a volume is on the host, ready to be mounted into containers. */
export interface VolumeMount {
  readonly hostPath: string;
  /** Whatever the container's volumeMount says. */
  readonly readOnly: boolean;
}

export interface VolumeDeps {
  readonly objects: ObjectSource;
  /** Absent on a standalone node: projected tokens are then an error of that volume. */
  readonly tokens: TokenSource | undefined;
  /** For downward API files. */
  readonly placeOf: (pod: Pod) => PodPlace;
}

export interface VolumeTask {
  readonly pod: Pod;
  readonly volumeName: string;
  /** The directory for this volume; its parent exists. */
  readonly dir: string;
  /** Remembers across restarts that the volume was made whole. */
  readonly readyFile: string;
}

/** Makes the volume, or brings it up to date. May run any number of times; the pod's directory removes it all. */
export type SetUp<Source> = (ctx: Ctx, deps: VolumeDeps, task: VolumeTask, source: Source) => Promise<VolumeMount>;
