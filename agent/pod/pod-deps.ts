/** What the work on one pod needs of the rest of the agent, and what it remembers of the pod between passes. */
import type { Ctx } from '#host/ctx.ts';
import type { DnsFacts } from '../container-config/dns.ts';
import type { VolumePlace } from '../container-config/mounts.ts';
import type { ResourceFacts } from '../container-config/resources.ts';
import type { SecurityFacts } from '../container-config/security.ts';
import type { Runtime } from '../cri/runtime.ts';
import type { Images } from '../image/ensure.ts';
import type { EventRecorder } from '../kube/events.ts';
import type { ObjectSource } from '../kube/object-cache.ts';
import type { Pod } from '../kube/types.ts';
import type { AgentPaths } from '../paths.ts';
import type { ProbeResults, WaitingNote } from '../status/container-status.ts';
import type { StatusWriter } from '../status/writer.ts';
import type { CrashBackOff } from './crash-back-off.ts';

export interface PodVolumes {
  /** May run at every pass; throws with the kubelet's text when a volume cannot be made. */
  mount(ctx: Ctx, pod: Pod): Promise<ReadonlyMap<string, VolumePlace>>;
  unmount(ctx: Ctx, uid: string): Promise<void>;
  subPath(ctx: Ctx, uid: string, request: { volume: string; volumePath: string; container: string; index: number; path: string }): Promise<string>;
}

export interface PodGroups {
  /** Returns the cgroup parent for the CRI. */
  ensurePod(pod: Pod): Promise<string>;
  removePod(ctx: Ctx, uid: string): Promise<void>;
}

/** What is true of this node now. */
export interface NodeFacts {
  readonly hostIPs: readonly string[];
  readonly allocatable: Readonly<Record<string, string>>;
  readonly dns: DnsFacts;
  readonly security: SecurityFacts;
  readonly resources: Omit<ResourceFacts, 'oomScoreAdj'>;
  readonly memoryBytes: number;
}

export interface PodDeps {
  readonly runtime: Runtime;
  readonly images: Images;
  readonly events: EventRecorder;
  readonly objects: ObjectSource;
  readonly status: StatusWriter;
  readonly volumes: PodVolumes;
  /** Of static pods in a cluster; undefined on a standalone node. */
  readonly mirrors: { ensure(ctx: Ctx, pod: Pod): Promise<void>; drop(ctx: Ctx, pod: Pod): Promise<void> } | undefined;
  /** Undefined when the agent makes no cgroups for pods (`cgroupsPerQOS: false`). */
  readonly groups: PodGroups | undefined;
  readonly paths: AgentPaths;
  readonly backOff: CrashBackOff;
  readonly probes: ProbeResults;
  readonly node: () => NodeFacts;
  readonly nowMs: () => number;
  /** Why pods with a network of their own cannot start now. */
  readonly networkProblem: () => string | undefined;
  /** Service variables for a pod; empty on a standalone node. */
  readonly serviceVariables: (pod: Pod) => ReadonlyMap<string, string>;
  /** CRI runtime handler of a pod; throws Fault when its RuntimeClass is not known. */
  readonly runtimeHandler: (ctx: Ctx, pod: Pod) => Promise<string>;
  /** Why the pod may not run here at all. */
  readonly admit: (pod: Pod) => { readonly reason: string; readonly message: string } | undefined;
}

/** Lives as long as the pod's worker. */
export interface PodMemory {
  readonly notes: Map<string, WaitingNote>;
  /** Set once when the pod must fail whatever its containers say. */
  failed: { readonly reason: string; readonly message: string } | undefined;
  admitted: boolean;
  /** Liveness and startup probes that gave up, by container id. */
  readonly unhealthy: Map<string, string>;
}

export const newMemory = (): PodMemory => ({ notes: new Map(), failed: undefined, admitted: false, unhealthy: new Map() });
