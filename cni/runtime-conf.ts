/** What one plugin reads on its stdin: its own configuration, plus name, version, previous result and the arguments of its capabilities. Pure. */
import type { Attachment, JsonObject, Network, PluginConf } from './types.ts';

/** The capability arguments of an attachment, by their names in CNI's CONVENTIONS.md. Empty ones are left out. */
export function capabilityArgs(attachment: Attachment): JsonObject {
  const { portMappings, bandwidth, dns, ips, mac, infinibandGUID, aliases, cgroupPath, podAnnotations } = attachment;
  const all = { portMappings, bandwidth, dns, ips, mac, infinibandGUID, aliases, cgroupPath, 'io.kubernetes.cri.pod-annotations': podAnnotations };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => !isEmpty(value)));
}

const isEmpty = (value: unknown): boolean =>
  value === undefined || value === '' || (Array.isArray(value) ? value.length === 0 : typeof value === 'object' && value !== null && Object.keys(value).length === 0);

export interface StdinOptions {
  readonly prevResult?: JsonObject | undefined;
  readonly capabilityArgs?: JsonObject | undefined;
  /** GC only. */
  readonly validAttachments?: readonly { readonly containerID: string; readonly ifname: string }[] | undefined;
}

/** A capability's argument reaches only a plugin that declares it. */
export function pluginStdin(network: Network, plugin: PluginConf, options: StdinOptions = {}): string {
  const { prevResult, validAttachments } = options;
  const offered = options.capabilityArgs ?? {};
  const runtimeConfig = Object.fromEntries(plugin.capabilities.filter((name) => name in offered).map((name) => [name, offered[name]]));
  return JSON.stringify({
    ...plugin.raw,
    name: network.name,
    cniVersion: network.cniVersion,
    ...(prevResult === undefined ? {} : { prevResult }),
    ...(Object.keys(runtimeConfig).length === 0 ? {} : { runtimeConfig }),
    // The second name is what an early text of the spec said; libcni sends both.
    ...(validAttachments === undefined ? {} : { 'cni.dev/valid-attachments': validAttachments, 'cni.dev/attachments': validAttachments }),
  });
}
