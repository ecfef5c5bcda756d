/** What plugins want changed of a container that is being made, done to its config.json. Pure. Source: github.com/containerd/nri v0.12.3, pkg/runtime-tools/generate. */
import { Fault } from '#host/fault.ts';
import type {
  OciDevice, OciDeviceRule, OciHook, OciHookPoint, OciHooks, OciLinux, OciMount, OciNamespace, OciProcess, OciResources, OciScheduler, OciSeccomp, OciSpec,
} from '../oci/spec-types.ts';
import {
  type ContainerAdjustment, type Hook, type Hooks, IOPrioClass, type KeyValue, type LinuxContainerAdjustment, type LinuxDevice, type LinuxRdt, type LinuxResources,
  type LinuxScheduler, LinuxSchedulerFlag, LinuxSchedulerPolicy, type LinuxSeccomp, type Mount, MpolFlag, MpolMode,
} from './gen/api.ts';
import { removalOf } from './merge.ts';
import { toOciResources } from './resources.ts';

/** What this machine allows. */
export interface AdjustHost {
  readonly cgroupVersion: 1 | 2;
  readonly controllers: ReadonlySet<string>;
  readonly swapAccounting: boolean;
  readonly lowestOomScoreAdj: number;
}

/** CDI devices are not in it: they are resolved from files. Fault 'invalid' names what cannot be had. */
export function adjustSpec(spec: OciSpec, adjust: ContainerAdjustment, host: AdjustHost): OciSpec {
  const { linux } = adjust;
  return {
    ...spec,
    process: processOf(spec.process, adjust, host),
    mounts: mountsOf(spec.mounts, adjust.mounts),
    annotations: merged(spec.annotations, adjust.annotations),
    ...(adjust.hooks === undefined ? {} : { hooks: hooksOf(spec.hooks, adjust.hooks) }),
    linux: linux === undefined ? spec.linux : linuxOf({ ...spec.linux, ...propagationOf(spec.linux, adjust.mounts) }, linux, host),
  };
}

function processOf(base: OciProcess, adjust: ContainerAdjustment, host: AdjustHost): OciProcess {
  const { oomScoreAdj, ioPriority, scheduler } = adjust.linux ?? {};
  const isSetAnew = (type: string): boolean => adjust.rlimits.some((limit) => limit.type === type);
  const rlimits = [...(base.rlimits ?? []).filter(({ type }) => !isSetAnew(type)), ...adjust.rlimits];
  return {
    ...base,
    env: envOf(base.env, adjust.env),
    ...(adjust.args.length === 0 ? {} : { args: adjust.args }),
    ...(rlimits.length === 0 ? {} : { rlimits }),
    ...(oomScoreAdj === undefined ? {} : { oomScoreAdj: Math.min(1000, Math.max(host.lowestOomScoreAdj, Number(oomScoreAdj.value))) }),
    ...(ioPriority === undefined || ioPriority.class === IOPrioClass.IOPRIO_CLASS_NONE ? {} : { ioPriority: { class: word(IOPrioClass, ioPriority.class), priority: ioPriority.priority } }),
    ...(scheduler === undefined ? {} : { scheduler: schedulerOf(scheduler) }),
  };
}

/** A changed variable stays where it is. */
function envOf(env: readonly string[], changes: readonly KeyValue[]): string[] {
  const byKey = new Map(env.map((entry) => [entry.slice(0, entry.indexOf('=')), entry]));
  for (const { key, value } of changes) {
    const removed = removalOf(key);
    if (removed !== undefined) byKey.delete(removed);
    else byKey.set(key, `${key}=${value}`);
  }
  return [...byKey.values()];
}

/** What is taken away goes first. */
function merged(base: Readonly<Record<string, string>> | undefined, changes: Readonly<Record<string, string>>): Record<string, string> {
  const result = new Map(Object.entries(base ?? {}));
  for (const key of Object.keys(changes)) result.delete(removalOf(key) ?? '');
  for (const [key, value] of Object.entries(changes)) if (removalOf(key) === undefined) result.set(key, value);
  return Object.fromEntries(result);
}

/** What lies deeper is mounted later. */
function mountsOf(mounts: readonly OciMount[], changes: readonly Mount[]): readonly OciMount[] {
  if (changes.length === 0) return mounts;
  const byPlace = new Map(mounts.map((mount) => [mount.destination, mount]));
  for (const { destination, type, source, options } of changes) {
    byPlace.delete(removalOf(destination) ?? destination);
    if (removalOf(destination) === undefined) byPlace.set(destination, { destination, type, source, options });
  }
  const depth = ({ destination }: OciMount): number => destination.split('/').filter((part) => part !== '').length;
  return [...byPlace.values()].toSorted((a, b) => depth(a) - depth(b));
}

/** A mount that propagates needs a root that does. */
function propagationOf(linux: OciLinux, mounts: readonly Mount[]): Pick<OciLinux, 'rootfsPropagation'> {
  const has = (option: string): boolean => mounts.some(({ options }) => options.includes(option));
  if (has('rshared')) return { rootfsPropagation: 'rshared' };
  return has('rslave') && linux.rootfsPropagation !== 'rshared' ? { rootfsPropagation: 'rslave' } : {};
}

function hooksOf(hooks: OciHooks | undefined, added: Hooks): OciHooks {
  const points: readonly OciHookPoint[] = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'];
  const all = points.map((point) => [point, [...(hooks?.[point] ?? []), ...added[point].map(hookOf)]] as const);
  return Object.fromEntries(all.filter(([, list]) => list.length > 0));
}

const hookOf = ({ path, args, env, timeout }: Hook): OciHook => ({
  path,
  ...(args.length === 0 ? {} : { args }),
  ...(env.length === 0 ? {} : { env }),
  ...(timeout === undefined ? {} : { timeout: Number(timeout.value) }),
});

function linuxOf(linux: OciLinux, adjust: LinuxContainerAdjustment, host: AdjustHost): OciLinux {
  const { resources, memoryPolicy, seccompPolicy } = adjust;
  const { devices, rules } = devicesOf(linux.devices ?? [], adjust.devices);
  const sysctl = merged(linux.sysctl, adjust.sysctl);
  const limits = resources === undefined ? linux.resources : resourcesOf(linux.resources, resources, host);
  const rdt = rdtOf(linux, adjust.rdt, resources?.rdtClass?.value);
  const netDevices = netDevicesOf(linux, adjust);
  const { intelRdt: _, ...rest } = linux;
  return {
    ...rest,
    namespaces: namespacesOf(linux.namespaces, adjust),
    cgroupsPath: adjust.cgroupsPath || linux.cgroupsPath,
    resources: { ...limits, devices: [...(limits.devices ?? []), ...rules] },
    ...(devices.length === 0 ? {} : { devices }),
    ...(Object.keys(sysctl).length === 0 ? {} : { sysctl }),
    ...(rdt === undefined ? {} : { intelRdt: rdt }),
    ...(Object.keys(netDevices).length === 0 ? {} : { netDevices }),
    ...(seccompPolicy === undefined ? {} : { seccomp: seccompOf(seccompPolicy) }),
    ...(memoryPolicy === undefined
      ? {}
      : { memoryPolicy: { mode: word(MpolMode, memoryPolicy.mode), nodes: memoryPolicy.nodes, flags: memoryPolicy.flags.map((flag) => word(MpolFlag, flag)) } }),
  };
}

function devicesOf(devices: readonly OciDevice[], changes: readonly LinuxDevice[]): { devices: OciDevice[]; rules: OciDeviceRule[] } {
  const byPath = new Map(devices.map((device) => [device.path, device]));
  const rules: OciDeviceRule[] = [];
  for (const change of changes) {
    const removed = removalOf(change.path);
    byPath.delete(removed ?? change.path);
    if (removed !== undefined) continue;
    if (change.type !== 'c' && change.type !== 'b' && change.type !== 'p') throw new Fault('invalid', `NRI device ${change.path}: type ${JSON.stringify(change.type)} is not c, b or p`);
    const { path, type, fileMode, uid, gid } = change;
    const [major, minor] = [Number(change.major), Number(change.minor)];
    byPath.set(path, {
      path, type, major, minor,
      ...(fileMode === undefined ? {} : { fileMode: fileMode.value }),
      ...(uid === undefined ? {} : { uid: uid.value }),
      ...(gid === undefined ? {} : { gid: gid.value }),
    });
    if (type !== 'p') rules.push({ allow: true, type, major, minor, access: type === 'b' ? 'rwm' : 'rw' });
  }
  return { devices: [...byPath.values()], rules };
}

function resourcesOf(base: OciResources, change: LinuxResources, host: AdjustHost): OciResources {
  if ((change.blockioClass?.value ?? '') !== '') throw new Fault('invalid', `NRI block I/O class ${change.blockioClass?.value}: no such classes are configured`);
  const { hugepageLimits: asked = [], ...over } = toOciResources(change);
  const limit = over.memory?.limit;
  // As for the CRI's limit: no swap beyond it unless that is asked for.
  const swap = over.memory?.swap ?? (limit === undefined || limit === 0 || !host.swapAccounting ? undefined : limit);
  const memory = { ...base.memory, ...over.memory, ...(swap === undefined ? {} : { swap }) };
  const foreign = host.cgroupVersion === 1 ? Object.keys(over.unified ?? {})[0] : undefined;
  if (foreign !== undefined) throw new Fault('invalid', `NRI resources.unified ${foreign}: this host has cgroup v1`);
  const pages = new Map([...(base.hugepageLimits ?? []), ...(host.controllers.has('hugetlb') ? asked : [])].map((entry) => [entry.pageSize, entry]));
  const rules = change.devices.map(({ allow, type, major, minor, access }): OciDeviceRule => ({
    allow,
    ...(type === 'a' || type === 'b' || type === 'c' ? { type } : {}),
    ...(major === undefined ? {} : { major: Number(major.value) }),
    ...(minor === undefined ? {} : { minor: Number(minor.value) }),
    access,
  }));
  return {
    ...base,
    ...over,
    ...(Object.keys(memory).length === 0 ? {} : { memory }),
    ...(base.cpu === undefined && over.cpu === undefined ? {} : { cpu: { ...base.cpu, ...over.cpu } }),
    ...(pages.size === 0 ? {} : { hugepageLimits: [...pages.values()] }),
    ...(base.unified === undefined && over.unified === undefined ? {} : { unified: { ...base.unified, ...over.unified } }),
    devices: [...(base.devices ?? []), ...rules],
  };
}

const namespaceTypes: readonly string[] = ['pid', 'network', 'mount', 'ipc', 'uts', 'user', 'cgroup'];

function namespacesOf(namespaces: readonly OciNamespace[], { namespaces: changes }: LinuxContainerAdjustment): OciNamespace[] {
  const byType = new Map<string, OciNamespace>(namespaces.map((namespace) => [namespace.type, namespace]));
  for (const { type, path } of changes) {
    const removed = removalOf(type);
    if (!namespaceTypes.includes(removed ?? type)) throw new Fault('invalid', `NRI namespace ${JSON.stringify(type)}: no such type`);
    if (removed !== undefined) byType.delete(removed);
    else byType.set(type, { type: type as OciNamespace['type'], ...(path === '' ? {} : { path }) });
  }
  return [...byType.values()];
}

function rdtOf(linux: OciLinux, change: LinuxRdt | undefined, className: string | undefined): OciLinux['intelRdt'] {
  const byClass = className === undefined ? linux.intelRdt : className === '' ? undefined : { closID: className };
  if (change === undefined) return byClass;
  const { closId, schemata, enableMonitoring } = change;
  if (change.remove && closId === undefined && schemata === undefined && enableMonitoring === undefined) return undefined;
  return {
    ...(change.remove ? {} : byClass),
    ...(closId === undefined ? {} : { closID: closId.value }),
    ...(schemata === undefined ? {} : { schemata: schemata.value }),
    ...(enableMonitoring === undefined ? {} : { enableMonitoring: enableMonitoring.value }),
  };
}

function netDevicesOf(linux: OciLinux, { netDevices: changes }: LinuxContainerAdjustment): Record<string, { name?: string }> {
  const result = new Map<string, { name?: string }>(Object.entries(linux.netDevices ?? {}));
  for (const [key, device] of Object.entries(changes)) {
    const removed = removalOf(key);
    if (removed !== undefined) result.delete(removed);
    else result.set(key, device.name === '' ? {} : { name: device.name });
  }
  return Object.fromEntries(result);
}

const schedulerOf = ({ policy, nice, priority, flags, runtime, deadline, period }: LinuxScheduler): OciScheduler => ({
  policy: word(LinuxSchedulerPolicy, policy),
  nice,
  priority,
  flags: flags.map((flag) => word(LinuxSchedulerFlag, flag)),
  runtime: Number(runtime),
  deadline: Number(deadline),
  period: Number(period),
});

const seccompOf = (policy: LinuxSeccomp): OciSeccomp => ({
  defaultAction: policy.defaultAction,
  ...(policy.defaultErrno === undefined ? {} : { defaultErrnoRet: policy.defaultErrno.value }),
  architectures: policy.architectures,
  flags: policy.flags,
  ...(policy.listenerPath === '' ? {} : { listenerPath: policy.listenerPath, listenerMetadata: policy.listenerMetadata }),
  syscalls: policy.syscalls.map(({ names, action, errnoRet, args }) => ({
    names,
    action,
    ...(errnoRet === undefined ? {} : { errnoRet: errnoRet.value }),
    args: args.map(({ index, value, valueTwo, op }) => ({ index, value: Number(value), valueTwo: Number(valueTwo), op })),
  })),
});

/** The name of an enum's value, as the OCI specification writes it. */
function word(names: Readonly<Record<string, number>>, value: number): string {
  const found = Object.entries(names).find(([, number]) => number === value)?.[0];
  if (found === undefined || value < 0) throw new Fault('invalid', `NRI adjustment: ${value} is not a known value`);
  return found;
}
