/** CDI devices of a container: which are asked for, which file has each, and what that does to config.json. Pure. */
import type { ContainerConfig } from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { OciDevice, OciDeviceRule, OciHooks, OciMount, OciSpec } from '../oci/spec-types.ts';
import { type CdiEdits, type CdiSpec, parseDeviceName } from './cdi-spec.ts';

/** One file of the CDI directories; `directory` counts up, and a later directory wins. */
export interface CdiFile {
  readonly path: string;
  readonly directory: number;
  /** Or why it cannot be read. */
  readonly content: CdiSpec | Fault;
}

const annotationPrefix = 'cdi.k8s.io/';

/** By the CRI field and by the annotations that device plugins of older kubelets write; each once. */
export function askedCdiDevices({ CDIDevices, annotations }: Pick<ContainerConfig, 'CDIDevices' | 'annotations'>): string[] {
  const annotated = Object.entries(annotations).filter(([key]) => key.startsWith(annotationPrefix)).flatMap(([, value]) => value.split(','));
  return [...new Set([...CDIDevices.map(({ name }) => name), ...annotated.map((name) => name.trim()).filter((name) => name !== '')])];
}

/**
 * The edits of these devices in their order, each file's own before those of its first device. Fault 'invalid' names a device that no file, or more
 * than one, has.
 */
export function cdiEdits(files: readonly CdiFile[], names: readonly string[]): CdiEdits[] {
  const begun = new Set<CdiSpec>();
  return names.flatMap((name) => {
    const { spec, edits } = findDevice(files, name);
    const isFirst = !begun.has(spec);
    begun.add(spec);
    return isFirst ? [spec.edits, edits] : [edits];
  });
}

function findDevice(files: readonly CdiFile[], name: string): { spec: CdiSpec; edits: CdiEdits } {
  const { kind, device } = parseDeviceName(name);
  const found = files.flatMap(({ path, directory, content }) => {
    const edits = content instanceof Fault || content.kind !== kind ? undefined : content.devices.find((each) => each.name === device)?.edits;
    return edits === undefined ? [] : [{ path, directory, spec: content as CdiSpec, edits }];
  });
  const upmost = Math.max(...found.map(({ directory }) => directory));
  const [first, ...others] = found.filter(({ directory }) => directory === upmost);
  if (first === undefined) {
    const broken = files.flatMap(({ content }) => (content instanceof Fault ? [content.message] : []));
    throw new Fault('invalid', [`CDI device ${name} is not known`, ...broken].join('; '));
  }
  if (others.length > 0) throw new Fault('invalid', `CDI device ${name} is in ${[first, ...others].map(({ path }) => path).join(' and in ')}`);
  return first;
}

/** A device node of which all is known. */
export interface FoundNode {
  readonly path: string;
  readonly type: 'b' | 'c' | 'p';
  readonly major: number;
  readonly minor: number;
  readonly fileMode: number | undefined;
  readonly permissions: string;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

/** `nodes` are the edits' device nodes, looked up on the host. */
export function editSpec(spec: OciSpec, edits: Omit<CdiEdits, 'deviceNodes'>, nodes: readonly FoundNode[]): OciSpec {
  const { process, linux } = spec;
  const { env, user } = process;
  const gids = [...new Set([...(user.additionalGids ?? []), ...edits.additionalGids])];
  const netDevices = Object.fromEntries(edits.netDevices.map(({ hostInterfaceName, name }) => [hostInterfaceName, name === '' ? {} : { name }]));
  return {
    ...spec,
    process: { ...process, env: withEnv(env, edits.env), user: { ...user, ...(gids.length === 0 ? {} : { additionalGids: gids }) } },
    mounts: withMounts(spec.mounts, edits.mounts),
    ...(edits.hooks.length === 0 ? {} : { hooks: withHooks(spec.hooks ?? {}, edits.hooks) }),
    linux: {
      ...linux,
      ...(nodes.length === 0 ? {} : { devices: withDevices(linux.devices ?? [], nodes, user) }),
      resources: { ...linux.resources, devices: [...(linux.resources.devices ?? []), ...nodes.flatMap(deviceRule)] },
      ...(edits.intelRdt === undefined ? {} : { intelRdt: edits.intelRdt }),
      ...(edits.netDevices.length === 0 ? {} : { netDevices: { ...linux.netDevices, ...netDevices } }),
    },
  };
}

function withEnv(env: readonly string[], added: readonly string[]): string[] {
  const byName = new Map([...env, ...added].map((entry) => [entry.slice(0, entry.indexOf('=')), entry]));
  return [...byName.values()];
}

const depth = (path: string): number => path.split('/').filter((part) => part !== '').length;

/** One at the same place is replaced; parents come before children, otherwise the order stays. */
function withMounts(mounts: readonly OciMount[], added: CdiEdits['mounts']): readonly OciMount[] {
  if (added.length === 0) return mounts;
  const ours = added.map(({ hostPath, containerPath, type, options }): OciMount => {
    const isBind = type === '' || type === 'bind';
    const saysBind = options.some((word) => /^r?bind$/.test(word));
    return { destination: containerPath, source: hostPath, type: isBind ? 'bind' : type, options: isBind && !saysBind ? ['bind', ...options] : options };
  });
  const taken = new Set(ours.map(({ destination }) => destination));
  return [...mounts.filter(({ destination }) => !taken.has(destination)), ...ours].toSorted((a, b) => depth(a.destination) - depth(b.destination));
}

function withHooks(hooks: OciHooks, added: CdiEdits['hooks']): OciHooks {
  const all = { ...hooks };
  for (const { point, hook } of added) all[point] = [...(all[point] ?? []), hook];
  return all;
}

/** A node without an owner belongs to the container's user, unless that is root. */
function withDevices(devices: readonly OciDevice[], nodes: readonly FoundNode[], user: { uid: number; gid: number }): OciDevice[] {
  const taken = new Set(nodes.map(({ path }) => path));
  const owner = (asked: number | undefined, own: number): number | undefined => asked ?? (own > 0 ? own : undefined);
  return [
    ...devices.filter(({ path }) => !taken.has(path)),
    ...nodes.map(({ path, type, major, minor, fileMode, uid, gid }): OciDevice => {
      const optional = { fileMode, uid: owner(uid, user.uid), gid: owner(gid, user.gid) };
      return { path, type, major, minor, ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)) };
    }),
  ];
}

const deviceRule = ({ type, major, minor, permissions }: FoundNode): OciDeviceRule[] =>
  (type === 'p' ? [] : [{ allow: true, type, major, minor, access: permissions || 'rwm' }]);
