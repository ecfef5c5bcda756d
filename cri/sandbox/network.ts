/** The network of a sandbox: what CNI needs to know of it. The decisions are CNI's (#cni). */
import { bandwidthOf, type Attachment, type Cni, podIps, type PortMapping } from '#cni';
import { type PodSandboxConfig, Protocol } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { namespacePath } from '#host/namespaces.ts';
import { podInterface, type SandboxRecord } from '../state/sandbox-record.ts';

const protocols: Readonly<Record<number, PortMapping['protocol']>> = { [Protocol.TCP]: 'tcp', [Protocol.UDP]: 'udp', [Protocol.SCTP]: 'sctp' };

/** A host port of 0 publishes nothing (CRI api.proto, PortMapping). Pure. */
const publishedPorts = (config: PodSandboxConfig): PortMapping[] =>
  config.portMappings
    .filter(({ hostPort }) => hostPort > 0)
    .map(({ protocol, containerPort, hostPort, hostIp }) => ({
      hostPort,
      containerPort,
      protocol: protocols[protocol] ?? 'tcp',
      ...(hostIp === '' ? {} : { hostIP: hostIp }),
    }));

/** Pure. */
export function attachmentOf(sandbox: SandboxRecord): Attachment {
  const { config } = sandbox;
  const dns = config.dnsConfig;
  return {
    containerId: sandbox.id,
    netnsPath: namespacePath(sandbox.namespacesDir, 'net'),
    ifName: podInterface,
    pod: { namespace: config.metadata?.namespace ?? '', name: config.metadata?.name ?? '', uid: config.metadata?.uid ?? '' },
    portMappings: publishedPorts(config),
    bandwidth: bandwidthOf(config.annotations),
    podAnnotations: config.annotations,
    ...(dns === undefined ? {} : { dns: { servers: dns.servers, searches: dns.searches, options: dns.options } }),
    ...(config.linux?.cgroupParent ? { cgroupPath: config.linux.cgroupParent } : {}),
  };
}

export interface SandboxNetwork {
  /** Fault unavailable while there is no network to attach to. */
  assertReady(): void;
  /** Throws CniError, also when the plugins take too long; detach undoes what was begun. */
  attach(ctx: Ctx, sandbox: SandboxRecord): Promise<{ ips: readonly string[]; cniResult: unknown }>;
  /** Unknown to CNI is success. Throws as attach. */
  detach(ctx: Ctx, sandbox: SandboxRecord): Promise<void>;
}

export const sandboxNetwork = (cni: Cni): SandboxNetwork => ({
  assertReady: () => {
    const status = cni.status();
    if (!status.ready) throw new Fault('unavailable', `network is not ready: ${status.message}`);
  },
  attach: async (ctx, sandbox) => {
    const result = await cni.add(ctx, attachmentOf(sandbox));
    const ips = podIps(result, podInterface);
    if (ips.length === 0) throw new Fault('internal', 'the CNI plugins gave the pod no address');
    return { ips, cniResult: result.raw };
  },
  detach: (ctx, sandbox) => cni.del(ctx, attachmentOf(sandbox)),
});
