/** Pure: the groups of pods by name, for both cgroup drivers. Source: kubelet 1.37 pkg/kubelet/cm/cgroup_manager_linux.go, pod_container_manager_linux.go. */
import { cgroupPathParts, expandSlice } from '#host/cgroup-parse.ts';
import { Fault } from '#host/fault.ts';
import type { QosClass } from './qos.ts';

export type CgroupDriver = 'cgroupfs' | 'systemd';

export interface GroupName {
  /** Path below the root of the hierarchy, for #host/cgroup.ts. */
  readonly path: string;
  /** The same as `cgroup_parent` of the CRI: the path, or the bare slice name for systemd. */
  readonly cgroupParent: string;
}

export interface GroupNames {
  readonly kubepods: GroupName;
  /** Guaranteed pods lie directly in kubepods. */
  tier(qosClass: QosClass): GroupName;
  pod(qosClass: QosClass, uid: string): GroupName;
  /** The pod whose group has this name (last part of a path) in that tier; undefined for any other group. */
  uidOf(qosClass: QosClass, groupName: string): string | undefined;
}

const TIERS = { Guaranteed: [], Burstable: ['burstable'], BestEffort: ['besteffort'] } as const satisfies Record<QosClass, readonly string[]>;

/** In slice names `-` separates the levels, so within a part it is written `_`. */
const escaped = (part: string): string => part.replaceAll('-', '_');

/** `root` is `cgroupRoot` of the configuration, `/` by default; kind's `/kubelet` makes `/kubelet/kubepods` or `kubelet-kubepods.slice`. Throws Fault 'invalid'. */
export function groupNames(driver: CgroupDriver, root = '/'): GroupNames {
  const prefix = root === '/' ? [] : cgroupPathParts(root);
  if (driver === 'systemd' && prefix.some((part) => part.includes('_') || part.endsWith('.slice'))) {
    throw new Fault('invalid', `cgroupRoot ${JSON.stringify(root)}: with the systemd driver, parts may not contain '_' or end in '.slice' (write the plain name)`);
  }
  const name = (...parts: readonly string[]): GroupName => {
    const all = [...prefix, 'kubepods', ...parts];
    if (driver === 'cgroupfs') return { path: `/${all.join('/')}`, cgroupParent: `/${all.join('/')}` };
    const slice = `${all.map(escaped).join('-')}.slice`;
    return { path: expandSlice(slice), cgroupParent: slice };
  };
  return {
    kubepods: name(),
    tier: (qosClass) => name(...TIERS[qosClass]),
    pod: (qosClass, uid) => name(...TIERS[qosClass], `pod${checkedUid(uid)}`),
    uidOf: (qosClass, groupName) => {
      const parent = [...prefix, 'kubepods', ...TIERS[qosClass]].map(escaped).join('-');
      const found = driver === 'cgroupfs' ? /^pod([^/]+)$/.exec(groupName) : new RegExp(`^${RegExp.escape(parent)}-pod([^-]+)\\.slice$`).exec(groupName);
      return driver === 'cgroupfs' ? found?.[1] : found?.[1]?.replaceAll('_', '-');
    },
  };
}

function checkedUid(uid: string): string {
  if (!/^[A-Za-z0-9.-]+$/.test(uid) || uid.length > 200) throw new Fault('invalid', `pod uid ${JSON.stringify(uid)} cannot name a cgroup`);
  return uid;
}
