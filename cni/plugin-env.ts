/** The environment of one call of a plugin. Pure. */
import { Fault } from '#host/fault.ts';
import type { Attachment, Verb } from './types.ts';

export type CniArgs = readonly (readonly [string, string])[];

/** In containerd's and CRI-O's order; IgnoreUnknown because most plugins know none of these. */
export function cniArgs(attachment: Pick<Attachment, 'containerId' | 'pod'>): CniArgs {
  const { containerId, pod } = attachment;
  return [
    ['IgnoreUnknown', '1'],
    ['K8S_POD_NAMESPACE', pod.namespace],
    ['K8S_POD_NAME', pod.name],
    ['K8S_POD_INFRA_CONTAINER_ID', containerId],
    ['K8S_POD_UID', pod.uid],
  ];
}

export interface Call {
  readonly verb: Verb;
  readonly containerId?: string;
  /** Empty when the namespace is gone. */
  readonly netnsPath?: string;
  readonly ifName?: string;
  readonly args?: CniArgs;
}

export interface EnvOptions {
  readonly binDirs: readonly string[];
  /** The PATH on which plugins find ip, iptables and the like. */
  readonly searchPath: string;
}

/** Almost every plugin is a Go program that lives for ten milliseconds: with one thread and no collection it is done 10 to 15 % sooner. */
const goRuntime = { GOMAXPROCS: '1', GOGC: 'off', GOMEMLIMIT: '128MiB' };

export function pluginEnv(call: Call, { binDirs, searchPath }: EnvOptions): Record<string, string> {
  return {
    ...goRuntime,
    PATH: searchPath,
    CNI_COMMAND: call.verb,
    CNI_CONTAINERID: call.containerId ?? '',
    CNI_NETNS: call.netnsPath ?? '',
    CNI_ARGS: (call.args ?? []).map(([key, value]) => `${key}=${value}`).join(';'),
    CNI_IFNAME: call.ifName ?? '',
    CNI_PATH: binDirs.join(':'),
  };
}

/** Throws Fault invalid for what would not survive the way to a plugin. Source: libcni pkg/utils, and the kernel's dev_valid_name. */
export function checkAttachment(attachment: Attachment): void {
  const { containerId, ifName, pod } = attachment;
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(containerId)) throw new Fault('invalid', `container id ${JSON.stringify(containerId)}: not fit for CNI`);
  if (!/^[^/:\s]{1,15}$/.test(ifName) || ifName === '.' || ifName === '..') throw new Fault('invalid', `interface name ${JSON.stringify(ifName)}: not fit for CNI`);
  for (const [field, value] of Object.entries(pod)) {
    if (/[;=\0]/.test(value)) throw new Fault('invalid', `pod ${field} ${JSON.stringify(value)}: not fit for CNI_ARGS`);
  }
}
