/**
 * The groups of pods on this node: kubepods with the node's allocatable, a tier each for Burstable and BestEffort pods, one group per pod.
 *
 *     /kubepods ─┬─ pod<uid>                  Guaranteed
 *                ├─ burstable ── pod<uid>     shares: sum of what its pods request
 *                └─ besteffort ─ pod<uid>     shares: 2
 *
 * The CRI server makes the containers' groups below a pod's. Source of the rules: kubelet 1.37 pkg/kubelet/cm.
 */
import { dirname } from 'node:path';
import { readdir } from 'node:fs/promises';
import { isErrno } from '#host/errno.ts';
import type { CgroupResources, Cgroups } from '#host/cgroup-types.ts';
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import { podUid } from '../kube/pod-facts.ts';
import type { Pod } from '../kube/types.ts';
import { groupNames, type CgroupDriver, type GroupName, type GroupNames } from './names.ts';
import { cpuSharesOf, kubepodsResources, MIN_CPU_SHARES, podCgroupResources, podCpuRequestMilli, type NodeAllocatable } from './pod-limits.ts';
import { qosClassOf, type QosClass } from './qos.ts';

export interface PodCgroupsOptions {
  readonly driver: CgroupDriver;
  /** Everything lies below it; `/` by default. */
  readonly cgroupRoot?: string;
  readonly cpuCfsQuota?: boolean;
  readonly podPidsLimit?: number;
}

const QOS_CLASSES: readonly QosClass[] = ['Guaranteed', 'Burstable', 'BestEffort'];
/** The kubelet needs these of cgroup v2 and refuses to start without; we only say what is missing. */
const WANTED_CONTROLLERS = ['cpu', 'cpuset', 'memory', 'pids'];
/** Larger than any machine: what the tiers get for huge pages, so that only pods and kubepods limit them. */
const UNBOUNDED_BYTES = 2 ** 52;
const CONTROLLER_OF: Readonly<Record<keyof CgroupResources, string>> = {
  cpuShares: 'cpu', cpuQuotaUs: 'cpu', cpuPeriodUs: 'cpu', cpusetCpus: 'cpuset', cpusetMems: 'cpuset',
  memoryLimitBytes: 'memory', memorySwapLimitBytes: 'memory', pidsLimit: 'pids', hugepages: 'hugetlb', unified: '',
};

interface KnownPod {
  readonly qosClass: QosClass;
  readonly cpuMilli: number;
  /** What was last written, to write only changes. */
  readonly written: string;
}

export class PodCgroups {
  readonly names: GroupNames;
  readonly #cgroups: Cgroups;
  readonly #options: Required<Pick<PodCgroupsOptions, 'cpuCfsQuota' | 'podPidsLimit'>>;
  readonly #pods = new Map<string, KnownPod>();
  #hugepageSizes: readonly string[] = [];
  #burstableWrites: Promise<void> = Promise.resolve();
  #burstableShares: number | undefined;

  constructor(cgroups: Cgroups, { driver, cgroupRoot = '/', cpuCfsQuota = true, podPidsLimit = -1 }: PodCgroupsOptions) {
    this.#cgroups = cgroups;
    this.names = groupNames(driver, cgroupRoot);
    this.#options = { cpuCfsQuota, podPidsLimit };
  }

  /** Makes kubepods and the tiers. May run again, when allocatable changes or to repair; a memory limit below what pods use now is logged and left for the next time. */
  async ensureRoot(ctx: Ctx, allocatable: NodeAllocatable): Promise<void> {
    const missing = WANTED_CONTROLLERS.filter((name) => !this.#cgroups.controllers.has(name));
    if (missing.length > 0) ctx.log.warn({ missing }, 'cgroup controllers missing: their limits are not enforced');
    this.#hugepageSizes = this.#cgroups.controllers.has('hugetlb') ? await hugepageSizes() : [];
    await this.#cgroups.create(this.names.kubepods.path);
    for (const [field, value] of Object.entries(this.#possible(kubepodsResources(allocatable)))) {
      try {
        await this.#cgroups.apply(this.names.kubepods.path, { [field]: value });
      } catch (error) {
        ctx.log.warn({ limit: field, why: explain(error) }, 'node allocatable not enforced');
      }
    }
    const hugepages = Object.fromEntries(this.#hugepageSizes.map((size) => [size, UNBOUNDED_BYTES]));
    for (const qosClass of ['Burstable', 'BestEffort'] as const) {
      await this.#cgroups.create(this.names.tier(qosClass).path, this.#possible({ cpuShares: MIN_CPU_SHARES, hugepages }));
    }
    this.#burstableShares = undefined;
    await this.#weighBurstable();
  }

  /** The pod's group with its limits; answers `cgroup_parent` for the CRI. Cheap when nothing changed: call it in every pass. */
  async ensurePod(pod: Pod): Promise<string> {
    const qosClass = qosClassOf(pod);
    const name = this.names.pod(qosClass, podUid(pod));
    const resources = this.#possible(podCgroupResources(pod, { ...this.#options, hugepageSizes: this.#hugepageSizes }));
    const written = JSON.stringify(resources);
    if (this.#pods.get(podUid(pod))?.written === written && (await this.#cgroups.exists(name.path))) return name.cgroupParent;
    await this.#cgroups.create(name.path, resources);
    this.#pods.set(podUid(pod), { qosClass, cpuMilli: podCpuRequestMilli(pod), written });
    await this.#weighBurstable();
    return name.cgroupParent;
  }

  /** The group a pod has or would have: for numbers. */
  groupOf(pod: Pod): GroupName {
    return this.names.pod(qosClassOf(pod), podUid(pod));
  }

  /** Kills what is left in the pod's group, in whichever tier, and removes it. Unknown is success. */
  async removePod(ctx: Ctx, uid: string): Promise<void> {
    for (const qosClass of QOS_CLASSES) {
      const { path } = this.names.pod(qosClass, uid);
      if (!(await this.#cgroups.exists(path))) continue;
      const left = await this.#cgroups.processes(path, { recursive: true });
      if (left.length > 0) ctx.log.warn({ uid, pids: left }, 'killing processes left in the group of a pod');
      await this.#cgroups.kill(ctx, path);
      await this.#cgroups.remove(ctx, path);
    }
    if (this.#pods.delete(uid)) await this.#weighBurstable();
  }

  /** UIDs of all pods that have a group, wanted or not. */
  async list(): Promise<string[]> {
    const found: string[] = [];
    for (const qosClass of QOS_CLASSES) {
      for (const group of await this.#cgroups.children(this.names.tier(qosClass).path)) {
        const uid = this.names.uidOf(qosClass, group);
        if (uid !== undefined) found.push(uid);
      }
    }
    return found;
  }

  /** Removes kubepods and all in it, processes included, and the configured root above it if nothing else is in there: for `nodelet wipe` and tests. */
  async removeAll(ctx: Ctx): Promise<void> {
    await this.#cgroups.kill(ctx, this.names.kubepods.path);
    await this.#cgroups.remove(ctx, this.names.kubepods.path);
    this.#pods.clear();
    const above = dirname(this.names.kubepods.path);
    if (above === '/' || (await this.#cgroups.children(above)).length > 0) return;
    await this.#cgroups.remove(ctx, above, { waitMs: 0 }).catch((err: unknown) => ctx.log.debug({ err, cgroup: above }, 'cgroup root kept: somebody is in it'));
  }

  /** One write at a time, each with the sum of its moment: the last one written is the newest. */
  #weighBurstable(): Promise<void> {
    const write = async (): Promise<void> => {
      const requested = [...this.#pods.values()].reduce((sum, pod) => (pod.qosClass === 'Burstable' ? sum + pod.cpuMilli : sum), 0);
      const cpuShares = cpuSharesOf(requested);
      if (cpuShares === this.#burstableShares) return;
      await this.#cgroups.apply(this.names.tier('Burstable').path, this.#possible({ cpuShares }));
      this.#burstableShares = cpuShares;
    };
    const done = this.#burstableWrites.then(write);
    this.#burstableWrites = done.catch(() => undefined); // the caller of `done` gets the failure; the next write must not inherit it
    return done;
  }

  /** Without the values whose controller this machine does not have: said once in `ensureRoot`, not a reason to refuse pods. */
  #possible(resources: CgroupResources): CgroupResources {
    const entries = Object.entries(resources) as [keyof CgroupResources, unknown][]; // Object.entries forgets the keys of a readonly record
    return Object.fromEntries(entries.filter(([field]) => CONTROLLER_OF[field] === '' || this.#cgroups.controllers.has(CONTROLLER_OF[field])));
  }
}

/** As cgroup files spell them: `hugepages-2048kB` → `2MB`. */
async function hugepageSizes(): Promise<string[]> {
  try {
    return (await readdir('/sys/kernel/mm/hugepages')).flatMap((name) => {
      const kb = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1]);
      if (!Number.isFinite(kb)) return [];
      if (kb >= 1 << 20) return [`${kb >> 20}GB`];
      return [kb >= 1 << 10 ? `${kb >> 10}MB` : `${kb}KB`];
    });
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
