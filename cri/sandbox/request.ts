/** What a RunPodSandbox request asks for, checked. Pure. */
import { isIP } from 'node:net';
import { NamespaceMode, type PodSandboxConfig, type PodSandboxMetadata, type PortMapping, Protocol } from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { IdMappings } from '#host/id-mapping.ts';
import type { NamespaceKind } from '#host/namespaces.ts';
import { userMappings } from '../spec/user-namespace.ts';

export interface SandboxWish {
  readonly config: PodSandboxConfig;
  readonly metadata: PodSandboxMetadata;
  /** Namespaces of its own that can be pinned; the others are the host's. */
  readonly pinned: readonly NamespaceKind[];
  /** Of a user namespace of its own. */
  readonly mappings: IdMappings | undefined;
  readonly hostNetwork: boolean;
  /** One pid namespace for all its containers: needs an init. */
  readonly sharesPid: boolean;
  readonly sysctls: Readonly<Record<string, string>>;
}

/** Fault invalid, naming the field. */
export function sandboxWish(config: PodSandboxConfig | undefined): SandboxWish {
  if (config === undefined) throw new Fault('invalid', 'config: is missing');
  const { metadata } = config;
  if (metadata === undefined) throw new Fault('invalid', 'config.metadata: is missing');
  for (const field of ['name', 'namespace', 'uid'] as const) if (metadata[field] === '') throw new Fault('invalid', `config.metadata.${field}: is empty`);
  const security = config.linux?.securityContext;
  const options = security?.namespaceOptions;
  if (security?.runAsGroup !== undefined && security.runAsUser === undefined) {
    throw new Fault('invalid', 'config.linux.security_context.run_as_group: needs run_as_user');
  }
  if (config.logDirectory !== '' && !config.logDirectory.startsWith('/')) throw new Fault('invalid', `config.log_directory: ${JSON.stringify(config.logDirectory)} is not an absolute path`);
  const cgroupParent = config.linux?.cgroupParent ?? '';
  if (cgroupParent.split('/').includes('..')) throw new Fault('invalid', `config.linux.cgroup_parent: ${JSON.stringify(cgroupParent)} may not contain ".."`);
  const hostNetwork = options?.network === NamespaceMode.NODE;
  const hostIpc = options?.ipc === NamespaceMode.NODE;
  const { hostname } = config;
  if (Buffer.byteLength(hostname) > maxHostnameBytes) throw new Fault('invalid', `config.hostname: ${JSON.stringify(hostname)} is longer than ${maxHostnameBytes} bytes`);
  config.portMappings.forEach(checkPort);
  const sysctls = config.linux?.sysctls ?? {};
  for (const name of Object.keys(sysctls)) checkSysctl(name, { hostNetwork, hostIpc });
  return {
    config,
    metadata,
    mappings: userMappings(options),
    pinned: [...(hostNetwork ? [] : (['net', 'uts'] as const)), ...(hostIpc ? [] : (['ipc'] as const))],
    hostNetwork,
    sharesPid: (options?.pid ?? NamespaceMode.POD) === NamespaceMode.POD,
    sysctls,
  };
}

/** sethostname(2): HOST_NAME_MAX. */
const maxHostnameBytes = 64;

/** A host port of 0 publishes nothing (CRI api.proto, PortMapping). */
function checkPort({ protocol, containerPort, hostPort, hostIp }: PortMapping, index: number): void {
  const invalid = (field: string, value: number | string, why: string): Fault =>
    new Fault('invalid', `config.port_mappings[${index}].${field}: ${JSON.stringify(value)} ${why}`);
  if (!publishedProtocols.includes(protocol)) throw invalid('protocol', protocol, 'is none of TCP, UDP and SCTP');
  if (hostPort < 0 || hostPort > 65_535) throw invalid('host_port', hostPort, 'is not a port');
  if (hostPort > 0 && (containerPort < 1 || containerPort > 65_535)) throw invalid('container_port', containerPort, 'is not a port');
  if (hostIp !== '' && isIP(hostIp) === 0) throw invalid('host_ip', hostIp, 'is not an address');
}

const publishedProtocols: readonly number[] = [Protocol.TCP, Protocol.UDP, Protocol.SCTP];

const ipcSysctl = /^(kernel[./](shm_rmid_forced|shmall|shmmax|shmmni|msgmax|msgmnb|msgmni|sem)|fs[./]mqueue[./][a-z_]+)$/;
const netSysctl = /^net[./][\w./-]+$/;

/** Only what belongs to the pod's own namespaces may be set: a write to another would change the host. */
function checkSysctl(name: string, host: { hostNetwork: boolean; hostIpc: boolean }): void {
  const invalid = (why: string): Fault => new Fault('invalid', `config.linux.sysctls: ${JSON.stringify(name)} ${why}`);
  if (name.split(/[./]/).includes('') || name.includes('..')) throw invalid('is not a name');
  if (netSysctl.test(name)) {
    if (host.hostNetwork) throw invalid("cannot be set with the host's network");
  } else if (ipcSysctl.test(name)) {
    if (host.hostIpc) throw invalid("cannot be set with the host's ipc namespace");
  } else throw invalid('is not namespaced');
}
