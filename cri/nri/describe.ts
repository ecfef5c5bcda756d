/** Our records in NRI's words. Pure. */
import type { ContainerConfig } from '#cri-api';
import type { OciHook, OciLinux, OciSeccomp, OciSpec } from '../oci/spec-types.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import {
  Container, ContainerState, type Hook, type Hooks, IOPrioClass, type LinuxContainer, type LinuxRdt, type LinuxScheduler, LinuxSchedulerFlag, LinuxSchedulerPolicy, type LinuxSeccomp,
  PodSandbox, type SecurityProfile,
} from './gen/api.ts';
import { fromCriResources, fromOciResources, overlayResources } from './resources.ts';

/** `namespacePath` is #host/namespaces': where a kind of namespace is pinned. */
export function describePod(record: SandboxRecord, namespacePath: (dir: string, kind: 'net' | 'ipc' | 'uts') => string): PodSandbox {
  const { config, owns, namespacesDir } = record;
  const hasNetwork = owns.some(({ kind }) => kind === 'network');
  const hasIpc = owns.some(({ kind }) => kind === 'mount');
  const kinds = owns.some(({ kind }) => kind === 'namespaces') ? ([...(hasNetwork ? ['net', 'uts'] : []), ...(hasIpc ? ['ipc'] : [])] as ('net' | 'ipc' | 'uts')[]) : [];
  return PodSandbox.create({
    id: record.id,
    name: config.metadata?.name ?? '',
    uid: config.metadata?.uid ?? '',
    namespace: config.metadata?.namespace ?? '',
    labels: config.labels,
    annotations: config.annotations,
    runtimeHandler: record.runtimeHandler,
    pid: record.init?.pid ?? 0,
    ips: [...record.ips],
    linux: {
      podOverhead: fromCriResources(config.linux?.overhead),
      podResources: fromCriResources(config.linux?.resources),
      cgroupParent: config.linux?.cgroupParent ?? '',
      namespaces: kinds.map((kind) => ({ type: kind === 'net' ? 'network' : kind, path: namespacePath(namespacesDir, kind) })),
    },
  });
}

const stateOf = {
  making: ContainerState.CONTAINER_UNKNOWN,
  created: ContainerState.CONTAINER_CREATED,
  running: ContainerState.CONTAINER_RUNNING,
  exited: ContainerState.CONTAINER_STOPPED,
} as const;

/** `spec` is its config.json, undefined while there is none. */
export function describeContainer(record: ContainerRecord, spec: OciSpec | undefined): Container {
  const { config, state } = record;
  const ended = state.name === 'exited' ? state : undefined;
  const isAlive = state.name === 'created' || state.name === 'running';
  const process = spec?.process;
  return Container.create({
    id: record.id,
    podSandboxId: record.sandboxId,
    name: config.metadata?.name ?? '',
    state: stateOf[state.name],
    labels: config.labels,
    annotations: { ...spec?.annotations, ...config.annotations },
    args: [...(process?.args ?? [])],
    env: [...(process?.env ?? [])],
    mounts: (spec?.mounts ?? []).map(({ destination, type, source, options }) => ({ destination, type, source, options: [...options] })),
    hooks: hooksOf(spec),
    linux: spec === undefined ? undefined : linuxOf(record, spec),
    pid: isAlive ? (record.process?.pid ?? 0) : 0,
    rlimits: (process?.rlimits ?? []).map(({ type, hard, soft }) => ({ type, hard: unsigned(hard), soft: unsigned(soft) })),
    createdAt: state.createdAtNs,
    startedAt: state.name === 'running' || state.name === 'exited' ? state.startedAtNs : 0n,
    finishedAt: ended?.finishedAtNs ?? 0n,
    exitCode: ended?.exitCode ?? 0,
    statusReason: ended?.reason ?? '',
    statusMessage: ended?.message ?? '',
    CDIDevices: config.CDIDevices.map(({ name }) => ({ name })),
    user: process === undefined ? undefined : { uid: process.user.uid, gid: process.user.gid, additionalGids: [...(process.user.additionalGids ?? [])] },
    image: { name: record.image.ref, configDigest: record.image.id },
  });
}

function hooksOf(spec: OciSpec | undefined): Hooks | undefined {
  if (spec?.hooks === undefined) return undefined;
  const { prestart, createRuntime, createContainer, startContainer, poststart, poststop } = spec.hooks;
  const all = (hooks: readonly OciHook[] | undefined): Hook[] =>
    (hooks ?? []).map(({ path, args, env, timeout }) => ({ path, args: [...(args ?? [])], env: [...(env ?? [])], timeout: timeout === undefined ? undefined : { value: BigInt(timeout) } }));
  return {
    prestart: all(prestart), createRuntime: all(createRuntime), createContainer: all(createContainer), startContainer: all(startContainer), poststart: all(poststart), poststop: all(poststop),
  };
}

function linuxOf(record: ContainerRecord, spec: OciSpec): LinuxContainer {
  const { linux, process } = spec;
  const updated = fromCriResources(record.resources);
  const created = fromOciResources(linux.resources);
  return {
    namespaces: linux.namespaces.map(({ type, path }) => ({ type, path: path ?? '' })),
    devices: (linux.devices ?? []).map(({ path, type, major, minor, fileMode, uid, gid }) => ({
      path, type, major: BigInt(major ?? 0), minor: BigInt(minor ?? 0), fileMode: boxed(fileMode), uid: boxed(uid), gid: boxed(gid),
    })),
    resources: updated === undefined ? created : overlayResources(created, updated),
    oomScoreAdj: process.oomScoreAdj === undefined ? undefined : { value: BigInt(process.oomScoreAdj) },
    cgroupsPath: linux.cgroupsPath,
    ioPriority: process.ioPriority === undefined ? undefined : { class: numberOf(IOPrioClass, process.ioPriority.class), priority: process.ioPriority.priority },
    seccompProfile: seccompProfile(record.config),
    seccompPolicy: linux.seccomp === undefined ? undefined : seccompOf(linux.seccomp),
    sysctl: { ...linux.sysctl },
    netDevices: Object.fromEntries(Object.entries(linux.netDevices ?? {}).map(([key, { name }]) => [key, { name: name ?? '' }])),
    scheduler: schedulerOf(spec),
    rdt: rdtOf(linux),
  };
}

const largest = 2n ** 64n - 1n;
/** A number of config.json may have been rounded up beyond 64 bits. */
const unsigned = (value: number | bigint): bigint => (BigInt(value) > largest ? largest : BigInt(value));
const boxed = (value: number | undefined): { value: number } | undefined => (value === undefined ? undefined : { value });
const numberOf = <T extends number>(names: Readonly<Record<string, T>>, name: string): T => names[name] ?? (0 as T);

const seccompProfile = (config: ContainerConfig): SecurityProfile | undefined => {
  const seccomp = config.linux?.securityContext?.seccomp;
  // The CRI's and NRI's kinds of profile have the same numbers.
  return seccomp === undefined ? undefined : { profileType: seccomp.profileType, localhostRef: seccomp.localhostRef };
};

const seccompOf = (seccomp: OciSeccomp): LinuxSeccomp => ({
  defaultAction: seccomp.defaultAction,
  defaultErrno: boxed(seccomp.defaultErrnoRet),
  architectures: [...(seccomp.architectures ?? [])],
  flags: [...(seccomp.flags ?? [])],
  listenerPath: seccomp.listenerPath ?? '',
  listenerMetadata: seccomp.listenerMetadata ?? '',
  syscalls: (seccomp.syscalls ?? []).map(({ names, action, errnoRet, args }) => ({
    names: [...names],
    action,
    errnoRet: boxed(errnoRet),
    args: (args ?? []).map(({ index, value, valueTwo, op }) => ({ index, value: unsigned(value), valueTwo: unsigned(valueTwo ?? 0), op })),
  })),
});

function schedulerOf({ process: { scheduler } }: OciSpec): LinuxScheduler | undefined {
  if (scheduler === undefined) return undefined;
  return {
    policy: numberOf(LinuxSchedulerPolicy, scheduler.policy),
    nice: scheduler.nice ?? 0,
    priority: scheduler.priority ?? 0,
    flags: (scheduler.flags ?? []).map((flag) => numberOf(LinuxSchedulerFlag, flag)),
    runtime: BigInt(scheduler.runtime ?? 0),
    deadline: BigInt(scheduler.deadline ?? 0),
    period: BigInt(scheduler.period ?? 0),
  };
}

function rdtOf({ intelRdt }: OciLinux): LinuxRdt | undefined {
  if (intelRdt === undefined) return undefined;
  const { closID, schemata, enableMonitoring } = intelRdt;
  return {
    closId: closID === undefined ? undefined : { value: closID },
    schemata: schemata === undefined ? undefined : { value: [...schemata] },
    enableMonitoring: enableMonitoring === undefined ? undefined : { value: enableMonitoring },
    remove: false,
  };
}
