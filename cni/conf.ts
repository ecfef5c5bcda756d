/**
 * The text of a configuration file → a checked network. Pure.
 *
 * .conflist is a list with `plugins`; .conf and .json are one plugin, wrapped into a list here, as libcni does. Every message is
 * `FILE: FIELD: what is wrong`. Unknown keys are kept and passed on: they are the plugin's.
 */
import { Fault } from '#host/fault.ts';
import type { JsonObject, Network, PluginConf } from './types.ts';
import { compareVersions, impliedVersion, newestVersion, parseVersion } from './version.ts';

/** Of container ids and network names. Source: libcni pkg/utils. The name becomes part of a file name. */
const validName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
/** A plugin is looked up by this name in the binary directories: it must not lead out of them. */
const validType = /^[^/\\\s]+$/;

/** Which extensions are configuration at all. Source: containerd's go-cni. */
export const isConfFile = (name: string): boolean => /\.(conflist|conf|json)$/.test(name) && !name.startsWith('.');

export interface ConfFile {
  readonly path: string;
  readonly text: string;
  /** Files of the folder named like the network, which add plugins unless `loadOnlyInlinedPlugins` (CNI 1.1). */
  readonly more?: readonly { readonly path: string; readonly text: string }[];
}

const broken = (file: string, field: string, what: string): Fault => new Fault('invalid', field === '' ? `${file}: ${what}` : `${file}: ${field}: ${what}`);

/** Throws Fault invalid. */
export function parseConfFile(file: ConfFile): Network {
  const top = parseObject(file.path, file.text);
  if (file.path.endsWith('.conflist')) return parseList(file, top);
  if (top['type'] === undefined && top['plugins'] !== undefined) {
    throw broken(file.path, 'plugins', 'a list of plugins must be in a file that ends in .conflist');
  }
  const plugin = parsePlugin(file.path, '', top);
  const list = { name: top['name'], cniVersion: top['cniVersion'], plugins: [plugin.raw] };
  return parseList({ path: file.path, text: JSON.stringify(list) }, list);
}

/** The name and whether its folder has to be read, so that the caller can read it before `parseConfFile`. Undefined when it has not. */
export function folderOf(file: ConfFile): string | undefined {
  if (!file.path.endsWith('.conflist')) return undefined;
  const top = parseObject(file.path, file.text);
  return readFlag(file.path, top, 'loadOnlyInlinedPlugins') ? undefined : readName(file.path, top);
}

function parseObject(path: string, text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw broken(path, '', `not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!isObject(value)) throw broken(path, '', 'must be a JSON object');
  return value;
}

const isObject = (value: unknown): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value);

function parseList(file: ConfFile, top: JsonObject): Network {
  const { path } = file;
  const name = readName(path, top);
  const versions = readVersions(path, top);
  const cniVersion = versions.at(-1) ?? impliedVersion;
  if (readFlag(path, top, 'loadOnlyInlinedPlugins') && top['plugins'] === undefined) throw broken(path, 'plugins', 'missing, while loadOnlyInlinedPlugins is true');
  const inlined = readPlugins(path, top);
  const loaded = (file.more ?? []).map((extra) => parsePlugin(extra.path, '', parseObject(extra.path, extra.text)));
  const plugins = [...inlined, ...loaded];
  if (plugins.length === 0) throw broken(path, 'plugins', 'missing or empty: a network needs at least one plugin');
  const disableCheck = readFlag(path, top, 'disableCheck');
  const disableGC = readFlag(path, top, 'disableGC');
  const whole = loaded.length === 0 ? top : { ...top, loadOnlyInlinedPlugins: true, plugins: plugins.map((plugin) => plugin.raw) };
  return { name, cniVersion, versions, disableCheck, disableGC, plugins, source: path, text: loaded.length === 0 ? file.text : JSON.stringify(whole) };
}

function readName(path: string, top: JsonObject): string {
  const name = top['name'];
  if (name === undefined) throw broken(path, 'name', 'missing');
  if (typeof name !== 'string') throw broken(path, 'name', 'must be a string');
  if (!validName.test(name)) throw broken(path, 'name', `${JSON.stringify(name)} may only have letters, digits, "_", "." and "-", and must begin with a letter or digit`);
  return name;
}

/** `cniVersion` and `cniVersions` together, without those newer than we are. Source: libcni NetworkConfFromBytes. */
function readVersions(path: string, top: JsonObject): string[] {
  const found: [string, unknown][] = [];
  if (top['cniVersion'] !== undefined) found.push(['cniVersion', top['cniVersion']]);
  const several = top['cniVersions'];
  if (several !== undefined) {
    if (!Array.isArray(several)) throw broken(path, 'cniVersions', 'must be a list of strings');
    several.forEach((value: unknown, index) => found.push([`cniVersions[${index}]`, value]));
  }
  const versions = found.map(([field, value]) => {
    if (typeof value !== 'string') throw broken(path, field, 'must be a string');
    const version = value === '' ? impliedVersion : value;
    if (parseVersion(version) === undefined) throw broken(path, field, `${JSON.stringify(value)} is not a version`);
    return version;
  });
  const usable = versions.filter((version) => compareVersions(version, newestVersion) <= 0);
  if (versions.length > 0 && usable.length === 0) throw broken(path, 'cniVersion', `${versions.join(', ')} is newer than ${newestVersion}, the newest that nodelet knows`);
  return [...new Set(usable)].toSorted(compareVersions);
}

function readPlugins(path: string, top: JsonObject): PluginConf[] {
  const list = top['plugins'];
  if (list === undefined) return [];
  if (!Array.isArray(list)) throw broken(path, 'plugins', 'must be a list');
  return list.map((value: unknown, index) => {
    if (!isObject(value)) throw broken(path, `plugins[${index}]`, 'must be an object');
    return parsePlugin(path, `plugins[${index}].`, value);
  });
}

function parsePlugin(path: string, prefix: string, raw: JsonObject): PluginConf {
  const type = raw['type'];
  if (type === undefined || type === '') throw broken(path, `${prefix}type`, 'missing: it names the plugin to run');
  if (typeof type !== 'string') throw broken(path, `${prefix}type`, 'must be a string');
  if (!validType.test(type) || type === '.' || type === '..') throw broken(path, `${prefix}type`, `${JSON.stringify(type)} must be a plain file name`);
  const declared = raw['capabilities'] ?? {};
  if (!isObject(declared)) throw broken(path, `${prefix}capabilities`, 'must be an object of booleans');
  const capabilities = Object.entries(declared).map(([name, supported]) => {
    if (typeof supported !== 'boolean') throw broken(path, `${prefix}capabilities.${name}`, 'must be true or false');
    return supported ? name : undefined;
  });
  return { type, capabilities: capabilities.filter((name) => name !== undefined), raw };
}

/** A boolean, or the words "true" and "false" as a string, which libcni takes too. */
function readFlag(path: string, top: JsonObject, field: string): boolean {
  const value = top[field] ?? false;
  if (typeof value === 'boolean') return value;
  const word = typeof value === 'string' ? value.toLowerCase() : '';
  if (word === 'true' || word === 'false') return word === 'true';
  throw broken(path, field, 'must be true or false');
}

/** The network with another of the versions it declares; its text says so too, for the day it has to be undone. */
export function withVersion(network: Network, cniVersion: string): Network {
  const { cniVersions: _others, ...rest } = parseObject(network.source, network.text);
  return { ...network, cniVersion, text: JSON.stringify({ ...rest, cniVersion }) };
}
