/**
 * What a plugin printed ↔ the result we pass on. Pure.
 *
 * 0.1 and 0.2 have `ip4`/`ip6`; 0.3 and 0.4 have `ips` with a `version` in each; since 1.0 that is gone. Addresses are checked: a plugin
 * that prints nonsense is named at once, instead of a pod with a nonsense IP.
 */
import { familyOf, isAddress, isCidr } from './address.ts';
import type { CniResult, JsonObject, ResultInterface, ResultIp, ResultRoute } from './types.ts';
import { isAtLeast, knownVersions, parseVersion } from './version.ts';

const isObject = (value: unknown): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value);
const wrong = (field: string, what: string): RangeError => new RangeError(`result: ${field}: ${what}`);

/** Throws RangeError that names the field. A result without `cniVersion` is of the version that was asked for. */
export function parseResult(text: string, askedVersion: string): CniResult {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    throw new RangeError(text.trim() === '' ? 'it printed no result' : `it printed no JSON but ${JSON.stringify(text.trim().slice(0, 200))}`);
  }
  if (!isObject(raw)) throw new RangeError('its result is not a JSON object');
  return readResult(raw, askedVersion);
}

/** As parseResult, from an object (of the cache, say); `raw` comes out in `version`. */
export function readResult(raw: JsonObject, version: string): CniResult {
  const own = raw['cniVersion'] ?? version;
  if (typeof own !== 'string' || parseVersion(own) === undefined) throw wrong('cniVersion', `${JSON.stringify(own)} is not a version`);
  const modern = isAtLeast(own, '0.3.0') ? raw : fromAncient(raw);
  const interfaces = list(modern, 'interfaces').map(readInterface);
  const ips = list(modern, 'ips').map((value, index) => readIp(value, index, interfaces.length));
  const routes = list(modern, 'routes').map(readRoute);
  const dns = isObject(modern['dns']) ? (modern['dns'] as CniResult['dns']) : {};
  return { interfaces, ips, routes, dns, raw: convert(modern, { from: own, to: version, ips, routes }) };
}

function list(raw: JsonObject, field: string): unknown[] {
  const value = raw[field] ?? [];
  if (!Array.isArray(value)) throw wrong(field, 'must be a list');
  return value;
}

function readInterface(value: unknown, index: number): ResultInterface {
  if (!isObject(value) || typeof value['name'] !== 'string') throw wrong(`interfaces[${index}].name`, 'missing');
  const { name, mac, mtu, sandbox } = value;
  return {
    name,
    ...(typeof mac === 'string' && mac !== '' ? { mac } : {}),
    ...(typeof mtu === 'number' ? { mtu } : {}),
    ...(typeof sandbox === 'string' && sandbox !== '' ? { sandbox } : {}),
  };
}

function readIp(value: unknown, index: number, interfaces: number): ResultIp {
  const field = `ips[${index}]`;
  if (!isObject(value)) throw wrong(field, 'must be an object');
  const { address, gateway, interface: at } = value;
  if (typeof address !== 'string' || !isCidr(address)) throw wrong(`${field}.address`, `${JSON.stringify(address)} is not an address with a prefix length`);
  if (gateway !== undefined && gateway !== '' && (typeof gateway !== 'string' || !isAddress(gateway))) throw wrong(`${field}.gateway`, `${JSON.stringify(gateway)} is not an address`);
  if (at !== undefined && (!Number.isInteger(at) || (at as number) < 0 || (at as number) >= interfaces)) throw wrong(`${field}.interface`, `there is no interface number ${JSON.stringify(at)}`);
  return { address, ...(typeof gateway === 'string' && gateway !== '' ? { gateway } : {}), ...(typeof at === 'number' ? { interface: at } : {}) };
}

function readRoute(value: unknown, index: number): ResultRoute {
  const field = `routes[${index}]`;
  if (!isObject(value)) throw wrong(field, 'must be an object');
  const { dst, gw } = value;
  if (typeof dst !== 'string' || !isCidr(dst)) throw wrong(`${field}.dst`, `${JSON.stringify(dst)} is not a CIDR`);
  if (gw !== undefined && gw !== '' && (typeof gw !== 'string' || !isAddress(gw))) throw wrong(`${field}.gw`, `${JSON.stringify(gw)} is not an address`);
  return { dst, ...(typeof gw === 'string' && gw !== '' ? { gw } : {}) };
}

/** 0.1 and 0.2 → the shape of 0.4. */
function fromAncient(raw: JsonObject): JsonObject {
  const families = [raw['ip4'], raw['ip6']].filter(isObject);
  return {
    ips: families.map((one) => ({ address: one['ip'], ...(one['gateway'] === undefined ? {} : { gateway: one['gateway'] }) })),
    routes: families.flatMap((one) => (Array.isArray(one['routes']) ? one['routes'] : [])) as unknown,
    ...(raw['dns'] === undefined ? {} : { dns: raw['dns'] }),
  };
}

interface Conversion {
  readonly from: string;
  readonly to: string;
  readonly ips: readonly ResultIp[];
  readonly routes: readonly ResultRoute[];
}

/** The same result in the version the next plugin will be spoken to in. Between equal shapes nothing but the number changes, so unknown fields survive. */
function convert(raw: JsonObject, { from, to, ips, routes }: Conversion): JsonObject {
  if (!isAtLeast(to, '0.3.0')) return toAncient(raw, to, ips, routes);
  const wantsFamily = !isAtLeast(to, '1.0.0');
  if (from === to) return raw['cniVersion'] === to ? raw : { ...raw, cniVersion: to };
  const plain = list(raw, 'ips') as JsonObject[];
  const converted = plain.map((ip, index) => {
    const { version: _version, ...rest } = ip;
    return wantsFamily ? { version: String(familyOf(ips[index]?.address ?? '')), ...rest } : rest;
  });
  return { ...raw, cniVersion: to, ...(converted.length > 0 ? { ips: converted } : {}) };
}

function toAncient(raw: JsonObject, to: string, ips: readonly ResultIp[], routes: readonly ResultRoute[]): JsonObject {
  const half = (family: 4 | 6): JsonObject => {
    const first = ips.find((ip) => familyOf(ip.address) === family);
    if (first === undefined) return {};
    const own = routes.filter((route) => familyOf(route.dst) === family);
    return { [`ip${family}`]: { ip: first.address, ...(first.gateway === undefined ? {} : { gateway: first.gateway }), ...(own.length > 0 ? { routes: own } : {}) } };
  };
  return { cniVersion: to, ...half(4), ...half(6), ...(raw['dns'] === undefined ? {} : { dns: raw['dns'] }) };
}

/**
 * The addresses of the pod itself, without prefix length: those of the interface `ifName` in the sandbox. Plugins that tell no interfaces
 * (0.2, and some that route) are taken at their word. The order is the network's.
 */
export function podIps(result: CniResult, ifName: string): string[] {
  const own = result.ips.filter((ip) => {
    const at = ip.interface === undefined ? undefined : result.interfaces[ip.interface];
    return at === undefined || (at.name === ifName && at.sandbox !== undefined);
  });
  return own.map((ip) => ip.address.split('/')[0] ?? ip.address);
}

/** The versions in a plugin's answer to VERSION. Throws RangeError. */
export function parseVersionAnswer(text: string): string[] {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    throw new RangeError(`it printed no JSON but ${JSON.stringify(text.trim().slice(0, 200))}`);
  }
  const supported = isObject(raw) ? raw['supportedVersions'] : undefined;
  // Before 0.3 a plugin told only its own version, which then meant 0.1 and 0.2.
  if (supported === undefined) return knownVersions.slice(0, 2);
  if (!Array.isArray(supported)) throw wrong('supportedVersions', 'must be a list');
  return supported.filter((version): version is string => typeof version === 'string');
}
