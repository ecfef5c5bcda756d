/** Limits in NRI's words: from the CRI's, to the CRI's and to the OCI runtime's, and one over another. Pure. */
import type { LinuxContainerResources } from '#cri-api';
import type { OciCpu, OciMemory, OciResources } from '../oci/spec-types.ts';
import { Field, LinuxCPU, LinuxMemory, LinuxResources } from './gen/api.ts';

const memoryFields = [
  ['limit', Field.MemLimit],
  ['reservation', Field.MemReservation],
  ['swap', Field.MemSwapLimit],
  ['kernel', Field.MemKernelLimit],
  ['kernelTcp', Field.MemTCPLimit],
  ['swappiness', Field.MemSwappiness],
  ['disableOomKiller', Field.MemDisableOomKiller],
  ['useHierarchy', Field.MemUseHierarchy],
] as const satisfies readonly (readonly [keyof LinuxMemory, Field])[];

const cpuFields = [
  ['shares', Field.CPUShares],
  ['quota', Field.CPUQuota],
  ['period', Field.CPUPeriod],
  ['realtimeRuntime', Field.CPURealtimeRuntime],
  ['realtimePeriod', Field.CPURealtimePeriod],
  ['cpus', Field.CPUSetCPUs],
  ['mems', Field.CPUSetMems],
] as const satisfies readonly (readonly [keyof LinuxCPU, Field])[];

const isGiven = (value: unknown): boolean => value !== undefined && value !== '';
const given = <T extends object>(value: T | undefined): Partial<T> =>
  Object.fromEntries(Object.entries(value ?? {}).filter(([, field]) => isGiven(field))) as Partial<T>;

/** A field that a plugin sets, with the key of the entry where the field is a collection. */
export interface FieldEntry {
  readonly field: Field;
  readonly key?: string;
}

/** What of a container's resources is set here. */
export function resourceFields(resources: LinuxResources): FieldEntry[] {
  const { memory, cpu } = resources;
  return [
    ...memoryFields.filter(([name]) => isGiven(memory?.[name])).map(([, field]) => ({ field })),
    ...cpuFields.filter(([name]) => isGiven(cpu?.[name])).map(([, field]) => ({ field })),
    ...resources.hugepageLimits.map(({ pageSize }) => ({ field: Field.HugepageLimits, key: pageSize })),
    ...Object.keys(resources.unified).map((key) => ({ field: Field.CgroupsUnified, key })),
    ...(resources.blockioClass === undefined ? [] : [{ field: Field.BlockioClass }]),
    ...(resources.rdtClass === undefined ? [] : [{ field: Field.RdtClass }]),
    ...(resources.pids === undefined ? [] : [{ field: Field.PidsLimit }]),
  ];
}

/** `base` with everything that `over` sets. */
export function overlayResources(base: LinuxResources | undefined, over: LinuxResources): LinuxResources {
  const below = base ?? LinuxResources.create();
  const isReplaced = (pageSize: string): boolean => over.hugepageLimits.some((limit) => limit.pageSize === pageSize);
  return {
    memory: { ...LinuxMemory.create(), ...given(below.memory), ...given(over.memory) },
    cpu: { ...LinuxCPU.create(), ...given(below.cpu), ...given(over.cpu) },
    hugepageLimits: [...below.hugepageLimits.filter(({ pageSize }) => !isReplaced(pageSize)), ...over.hugepageLimits],
    blockioClass: over.blockioClass ?? below.blockioClass,
    rdtClass: over.rdtClass ?? below.rdtClass,
    unified: { ...below.unified, ...over.unified },
    devices: [...below.devices, ...over.devices],
    pids: over.pids ?? below.pids,
  };
}

const some = (value: bigint): { value: bigint } | undefined => (value === 0n ? undefined : { value });

/** Zero means "not set" in the CRI, and nothing in NRI. */
export function fromCriResources(resources: LinuxContainerResources | undefined): LinuxResources | undefined {
  if (resources === undefined) return undefined;
  return LinuxResources.create({
    memory: { limit: some(resources.memoryLimitInBytes), swap: some(resources.memorySwapLimitInBytes) },
    cpu: {
      shares: some(resources.cpuShares),
      quota: some(resources.cpuQuota),
      period: some(resources.cpuPeriod),
      cpus: resources.cpusetCpus,
      mems: resources.cpusetMems,
    },
    hugepageLimits: resources.hugepageLimits,
    unified: resources.unified,
  });
}

const pidsMax = 'pids.max';

/** What the CRI can say of them; a limit of processes travels as cgroup v2's file, which is understood for v1 too. `base` gives what NRI has no word for. */
export function toCriResources(resources: LinuxResources, base?: LinuxContainerResources): LinuxContainerResources {
  const { memory, cpu, pids } = resources;
  const limit = pids === undefined ? undefined : pids.limit < 0n ? 'max' : String(pids.limit);
  return {
    cpuPeriod: cpu?.period?.value ?? 0n,
    cpuQuota: cpu?.quota?.value ?? 0n,
    cpuShares: cpu?.shares?.value ?? 0n,
    memoryLimitInBytes: memory?.limit?.value ?? 0n,
    memorySwapLimitInBytes: memory?.swap?.value ?? 0n,
    oomScoreAdj: base?.oomScoreAdj ?? 0n,
    cpusetCpus: cpu?.cpus ?? '',
    cpusetMems: cpu?.mems ?? '',
    hugepageLimits: resources.hugepageLimits,
    unified: { ...resources.unified, ...(limit === undefined ? {} : { [pidsMax]: limit }) },
  };
}

const number = (value: { value: bigint } | undefined): number | undefined => (value === undefined ? undefined : Number(value.value));

/** Without the devices, which are not limits but a list of their own. */
export function toOciResources(resources: LinuxResources): OciResources {
  const { memory, cpu, pids } = resources;
  const ociMemory: OciMemory = given({
    limit: number(memory?.limit),
    reservation: number(memory?.reservation),
    swap: number(memory?.swap),
    kernel: number(memory?.kernel),
    kernelTCP: number(memory?.kernelTcp),
    swappiness: number(memory?.swappiness),
    disableOOMKiller: memory?.disableOomKiller?.value,
    useHierarchy: memory?.useHierarchy?.value,
  }) as OciMemory;
  const ociCpu: OciCpu = given({
    shares: number(cpu?.shares),
    quota: number(cpu?.quota),
    period: number(cpu?.period),
    realtimeRuntime: number(cpu?.realtimeRuntime),
    realtimePeriod: number(cpu?.realtimePeriod),
    cpus: cpu?.cpus,
    mems: cpu?.mems,
  }) as OciCpu;
  return {
    ...(Object.keys(ociMemory).length === 0 ? {} : { memory: ociMemory }),
    ...(Object.keys(ociCpu).length === 0 ? {} : { cpu: ociCpu }),
    ...(pids === undefined ? {} : { pids: { limit: Number(pids.limit) } }),
    ...(resources.hugepageLimits.length === 0 ? {} : { hugepageLimits: resources.hugepageLimits.map(({ pageSize, limit }) => ({ pageSize, limit: Number(limit) })) }),
    ...(Object.keys(resources.unified).length === 0 ? {} : { unified: resources.unified }),
  };
}

const optional = (value: number | undefined): { value: bigint } | undefined => (value === undefined ? undefined : { value: BigInt(Math.trunc(value)) });
const flag = (value: boolean | undefined): { value: boolean } | undefined => (value === undefined ? undefined : { value });

/** With the device rules. */
export function fromOciResources({ memory, cpu, pids, hugepageLimits, unified, devices }: OciResources): LinuxResources {
  return LinuxResources.create({
    memory: {
      limit: optional(memory?.limit),
      reservation: optional(memory?.reservation),
      swap: optional(memory?.swap),
      kernel: optional(memory?.kernel),
      kernelTcp: optional(memory?.kernelTCP),
      swappiness: optional(memory?.swappiness),
      disableOomKiller: flag(memory?.disableOOMKiller),
      useHierarchy: flag(memory?.useHierarchy),
    },
    cpu: {
      shares: optional(cpu?.shares),
      quota: optional(cpu?.quota),
      period: optional(cpu?.period),
      realtimeRuntime: optional(cpu?.realtimeRuntime),
      realtimePeriod: optional(cpu?.realtimePeriod),
      cpus: cpu?.cpus ?? '',
      mems: cpu?.mems ?? '',
    },
    hugepageLimits: (hugepageLimits ?? []).map(({ pageSize, limit }) => ({ pageSize, limit: BigInt(Math.trunc(limit)) })),
    unified: { ...unified },
    devices: (devices ?? []).map(({ allow, type, major, minor, access }) => ({ allow, type: type ?? '', major: optional(major), minor: optional(minor), access: access ?? '' })),
    pids: pids === undefined ? undefined : { limit: BigInt(pids.limit) },
  });
}
