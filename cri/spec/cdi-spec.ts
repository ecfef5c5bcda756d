/**
 * A file of the Container Device Interface: which devices a vendor has, and what a container needs for each. Pure.
 * Source: github.com/cncf-tags/container-device-interface SPEC.md, versions 0.3 to 1.1.
 */
import { Fault } from '#host/fault.ts';
import type { OciHook, OciHookPoint } from '../oci/spec-types.ts';

export interface CdiSpec {
  /** `vendor.com/class`. */
  readonly kind: string;
  /** For every container that has any device of this file. */
  readonly edits: CdiEdits;
  readonly devices: readonly { readonly name: string; readonly edits: CdiEdits }[];
}

export interface CdiEdits {
  readonly env: readonly string[];
  readonly deviceNodes: readonly CdiDeviceNode[];
  readonly netDevices: readonly { readonly hostInterfaceName: string; readonly name: string }[];
  readonly mounts: readonly { readonly hostPath: string; readonly containerPath: string; readonly type: string; readonly options: readonly string[] }[];
  readonly hooks: readonly { readonly point: OciHookPoint; readonly hook: OciHook }[];
  readonly intelRdt: { readonly closID?: string; readonly schemata: readonly string[]; readonly enableMonitoring: boolean } | undefined;
  readonly additionalGids: readonly number[];
}

export interface CdiDeviceNode {
  /** In the container. */
  readonly path: string;
  readonly hostPath: string;
  /** Empty: as the host's node is. */
  readonly type: '' | 'b' | 'c' | 'u' | 'p';
  readonly major: number | undefined;
  readonly minor: number | undefined;
  readonly fileMode: number | undefined;
  /** Subset of `rwm`; empty means all. */
  readonly permissions: string;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

const versions = /^(0\.[3-9]\.\d+|1\.[01]\.\d+)$/;
const vendorOrClass = '[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?';
const classWord = '[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?';
const deviceWord = '[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?';
const kindForm = new RegExp(`^${vendorOrClass}/${classWord}$`);
const nameForm = new RegExp(`^${deviceWord}$`);

/** `vendor.com/class=name` in its two parts. Fault 'invalid' for any other form. */
export function parseDeviceName(name: string): { kind: string; device: string } {
  const at = name.indexOf('=');
  const kind = name.slice(0, at);
  const device = name.slice(at + 1);
  const isWhole = at >= 0 && kindForm.test(kind) && nameForm.test(device);
  if (!isWhole) throw new Fault('invalid', `CDI device ${JSON.stringify(name)}: must be like vendor.com/class=name`);
  return { kind, device };
}

type Fields = Readonly<Record<string, unknown>>;

/** Reads values of known types and says where one has another. */
class Reader {
  readonly #file: string;
  constructor(file: string) {
    this.#file = file;
  }

  wrong(where: string, why: string): Fault {
    return new Fault('invalid', `CDI file ${this.#file}: ${where}: ${why}`);
  }

  /** An effect that we do not know must not be left out in silence. */
  fields(value: unknown, where: string, known: readonly string[]): Fields {
    if (value === undefined || value === null) return {};
    if (typeof value !== 'object' || Array.isArray(value)) throw this.wrong(where, 'must be a mapping');
    const foreign = Object.keys(value).find((key) => !known.includes(key));
    if (foreign !== undefined) throw this.wrong(`${where}.${foreign}`, 'unknown field');
    return value as Fields;
  }

  list<T>(value: unknown, where: string, item: (entry: unknown, where: string) => T): T[] {
    if (value === undefined || value === null) return [];
    if (!Array.isArray(value)) throw this.wrong(where, 'must be a list');
    return value.map((entry, index) => item(entry, `${where}[${index}]`));
  }

  text(value: unknown, where: string): string {
    if (value === undefined || value === null) return '';
    if (typeof value !== 'string' || value.includes('\0')) throw this.wrong(where, 'must be a text');
    return value;
  }

  path(value: unknown, where: string): string {
    const path = this.text(value, where);
    if (!path.startsWith('/')) throw this.wrong(where, `${JSON.stringify(path)} is not an absolute path`);
    return path;
  }

  number(value: unknown, where: string): number | undefined {
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw this.wrong(where, 'must be a number from 0 on');
    return value;
  }
}

/** `value` is the parsed JSON or YAML. Fault 'invalid' names file and field. */
export function cdiSpec(value: unknown, file: string): CdiSpec {
  const read = new Reader(file);
  const spec = read.fields(value, 'specification', ['cdiVersion', 'kind', 'annotations', 'devices', 'containerEdits']);
  const version = read.text(spec['cdiVersion'], 'cdiVersion');
  if (!versions.test(version)) throw read.wrong('cdiVersion', `${JSON.stringify(version)} is not supported (0.3.0 to 1.1.x are)`);
  const kind = read.text(spec['kind'], 'kind');
  if (!kindForm.test(kind)) throw read.wrong('kind', `${JSON.stringify(kind)} must be like vendor.com/class`);
  const devices = read.list(spec['devices'], 'devices', (entry, where) => {
    const device = read.fields(entry, where, ['name', 'annotations', 'containerEdits']);
    const name = read.text(device['name'], `${where}.name`);
    if (!nameForm.test(name)) throw read.wrong(`${where}.name`, `${JSON.stringify(name)} is not a name`);
    return { name, edits: edits(read, device['containerEdits'], `${where}.containerEdits`) };
  });
  const twice = devices.find(({ name }, index) => devices.findIndex((other) => other.name === name) !== index);
  if (twice !== undefined) throw read.wrong('devices', `${JSON.stringify(twice.name)} is there twice`);
  return { kind, devices, edits: edits(read, spec['containerEdits'], 'containerEdits') };
}

function edits(read: Reader, value: unknown, where: string): CdiEdits {
  const found = read.fields(value, where, ['env', 'deviceNodes', 'netDevices', 'mounts', 'hooks', 'intelRdt', 'additionalGids']);
  return {
    env: read.list(found['env'], `${where}.env`, (entry, at) => {
      const text = read.text(entry, at);
      if (text.indexOf('=') < 1) throw read.wrong(at, `${JSON.stringify(text)} must be NAME=value`);
      return text;
    }),
    deviceNodes: read.list(found['deviceNodes'], `${where}.deviceNodes`, (entry, at) => deviceNode(read, entry, at)),
    netDevices: read.list(found['netDevices'], `${where}.netDevices`, (entry, at) => {
      const device = read.fields(entry, at, ['hostInterfaceName', 'name']);
      return { hostInterfaceName: read.text(device['hostInterfaceName'], `${at}.hostInterfaceName`), name: read.text(device['name'], `${at}.name`) };
    }),
    mounts: read.list(found['mounts'], `${where}.mounts`, (entry, at) => {
      const mount = read.fields(entry, at, ['hostPath', 'containerPath', 'options', 'type']);
      const hostPath = read.text(mount['hostPath'], `${at}.hostPath`);
      const containerPath = read.path(mount['containerPath'], `${at}.containerPath`);
      if (hostPath === '') throw read.wrong(`${at}.hostPath`, 'is missing');
      const options = read.list(mount['options'], `${at}.options`, (word, place) => read.text(word, place));
      return { hostPath, containerPath, type: read.text(mount['type'], `${at}.type`), options };
    }),
    hooks: read.list(found['hooks'], `${where}.hooks`, (entry, at) => hook(read, entry, at)),
    intelRdt: found['intelRdt'] === undefined || found['intelRdt'] === null ? undefined : intelRdt(read, found['intelRdt'], `${where}.intelRdt`),
    additionalGids: read.list(found['additionalGids'], `${where}.additionalGids`, (entry, at) => read.number(entry, at) ?? 0),
  };
}

const deviceTypes: readonly string[] = ['', 'b', 'c', 'u', 'p'];

function deviceNode(read: Reader, value: unknown, where: string): CdiDeviceNode {
  const node = read.fields(value, where, ['path', 'hostPath', 'type', 'major', 'minor', 'fileMode', 'permissions', 'uid', 'gid']);
  const path = read.path(node['path'], `${where}.path`);
  const type = read.text(node['type'], `${where}.type`);
  const permissions = read.text(node['permissions'], `${where}.permissions`);
  if (!deviceTypes.includes(type)) throw read.wrong(`${where}.type`, `${JSON.stringify(type)} is none of b, c, u and p`);
  if (!/^[rwm]{0,3}$/.test(permissions)) throw read.wrong(`${where}.permissions`, 'only r, w and m are allowed');
  const number = (name: string): number | undefined => read.number(node[name], `${where}.${name}`);
  return {
    path, hostPath: read.text(node['hostPath'], `${where}.hostPath`) || path, type: type as CdiDeviceNode['type'], permissions,
    major: number('major'), minor: number('minor'), fileMode: number('fileMode'), uid: number('uid'), gid: number('gid'),
  };
}

const points: readonly string[] = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'] satisfies OciHookPoint[];

function hook(read: Reader, value: unknown, where: string): CdiEdits['hooks'][number] {
  const found = read.fields(value, where, ['hookName', 'path', 'args', 'env', 'timeout']);
  const point = read.text(found['hookName'], `${where}.hookName`);
  if (!points.includes(point)) throw read.wrong(`${where}.hookName`, `${JSON.stringify(point)} is none of ${points.join(', ')}`);
  const words = (name: string): string[] => read.list(found[name], `${where}.${name}`, (word, at) => read.text(word, at));
  const timeout = read.number(found['timeout'], `${where}.timeout`);
  const args = words('args');
  const env = words('env');
  return {
    point: point as OciHookPoint,
    hook: {
      path: read.path(found['path'], `${where}.path`),
      ...(args.length === 0 ? {} : { args }),
      ...(env.length === 0 ? {} : { env }),
      ...(timeout === undefined ? {} : { timeout }),
    },
  };
}

/** The older way of saying it has a field for each kind of resource; the OCI's is a list of lines. */
function intelRdt(read: Reader, value: unknown, where: string): NonNullable<CdiEdits['intelRdt']> {
  const found = read.fields(value, where, ['closID', 'l3CacheSchema', 'memBwSchema', 'schemata', 'enableMonitoring', 'enableCMT', 'enableMBM']);
  const text = (name: string): string => read.text(found[name], `${where}.${name}`);
  const lines = [text('l3CacheSchema'), text('memBwSchema'), ...read.list(found['schemata'], `${where}.schemata`, (line, at) => read.text(line, at))];
  const closID = text('closID');
  if (closID === '.' || closID === '..' || /[/\n]/.test(closID)) throw read.wrong(`${where}.closID`, `${JSON.stringify(closID)} is not a name`);
  return {
    ...(closID === '' ? {} : { closID }),
    schemata: lines.filter((line) => line !== ''),
    enableMonitoring: ['enableMonitoring', 'enableCMT', 'enableMBM'].some((name) => found[name] === true),
  };
}
