/**
 * Which plugins of a chain have nothing to do for a pod, so that they need not be run: 8 ms each at ADD and again at DEL. Pure.
 *
 * Only for plugins whose source says so. portmap without mappings passes the result through at ADD and returns at DEL (plugins/meta/portmap/main.go,
 * cmdAdd and cmdDel); bandwidth without limits does the same at ADD, and at DEL looks for an interface that it did not make (meta/bandwidth/main.go).
 */
import type { JsonObject, PluginConf } from './types.ts';

const limits = ['ingressRate', 'ingressBurst', 'egressRate', 'egressBurst'];

/** `capabilityArgs`: of the attachment, without empty ones. The first of a chain is never idle: it makes the interface. */
export function isIdle(plugin: PluginConf, index: number, capabilityArgs: JsonObject): boolean {
  const { type, raw } = plugin;
  // Arguments that are fixed in the file, which is unusual, are arguments too.
  if (index === 0 || raw['runtimeConfig'] !== undefined) return false;
  const gets = (name: string): boolean => plugin.capabilities.includes(name) && capabilityArgs[name] !== undefined;
  if (type === 'portmap') return !gets('portMappings');
  if (type === 'bandwidth') return !gets('bandwidth') && limits.every((name) => raw[name] === undefined);
  return false;
}
