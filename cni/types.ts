/** The words of CNI: a network's configuration, what the runtime asks for one pod, what a network answers. Sources: CNI spec 1.1 and its CONVENTIONS.md. */

export type JsonObject = Readonly<Record<string, unknown>>;

/** One plugin of a network: its `type` is the name of the executable. */
export interface PluginConf {
  readonly type: string;
  /** The capabilities it declares as true: only their arguments reach it. */
  readonly capabilities: readonly string[];
  /** As written, with everything we do not know. */
  readonly raw: JsonObject;
}

/** A checked network: a chain of plugins under one name and one version. */
export interface Network {
  readonly name: string;
  /** The version spoken with the plugins. */
  readonly cniVersion: string;
  readonly disableCheck: boolean;
  readonly disableGC: boolean;
  readonly plugins: readonly PluginConf[];
  /** For messages: a path, or what else it came from. */
  readonly source: string;
  /** The list as JSON text with every plugin inlined: enough to undo the network when its file is gone. */
  readonly text: string;
  /** Every version the file declares and we know, lowest first. */
  readonly versions: readonly string[];
}

export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly hostIP?: string;
}

/** Bits per second, and bits. */
export interface Bandwidth {
  readonly ingressRate?: number;
  readonly ingressBurst?: number;
  readonly egressRate?: number;
  readonly egressBurst?: number;
}

export interface DnsConfig {
  readonly servers?: readonly string[];
  readonly searches?: readonly string[];
  readonly options?: readonly string[];
}

/** One interface of one pod. */
export interface Attachment {
  /** The sandbox id. */
  readonly containerId: string;
  /** Undefined when the namespace is gone (DEL only). */
  readonly netnsPath: string | undefined;
  readonly ifName: string;
  readonly pod: { readonly namespace: string; readonly name: string; readonly uid: string };
  readonly portMappings?: readonly PortMapping[] | undefined;
  readonly bandwidth?: Bandwidth | undefined;
  readonly dns?: DnsConfig | undefined;
  /** Requested addresses, with or without prefix length. */
  readonly ips?: readonly string[] | undefined;
  readonly mac?: string | undefined;
  readonly infinibandGUID?: string | undefined;
  readonly aliases?: readonly string[] | undefined;
  readonly cgroupPath?: string | undefined;
  /** Passed as the capability `io.kubernetes.cri.pod-annotations`, as containerd does. */
  readonly podAnnotations?: Readonly<Record<string, string>> | undefined;
}

/** What the cache needs to find an attachment. */
export type AttachmentKey = Pick<Attachment, 'containerId' | 'ifName'>;

export interface ResultInterface {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** Path of the namespace; absent for interfaces on the host. */
  readonly sandbox?: string;
}

export interface ResultIp {
  /** CIDR. */
  readonly address: string;
  readonly gateway?: string;
  /** Index into `interfaces`. */
  readonly interface?: number;
}

export interface ResultRoute {
  readonly dst: string;
  readonly gw?: string;
}

/** The result of ADD, whatever version the plugins speak. */
export interface CniResult {
  readonly interfaces: readonly ResultInterface[];
  readonly ips: readonly ResultIp[];
  readonly routes: readonly ResultRoute[];
  readonly dns: { readonly nameservers?: readonly string[]; readonly domain?: string; readonly search?: readonly string[]; readonly options?: readonly string[] };
  /** As the last plugin printed it, in the network's version. */
  readonly raw: JsonObject;
}

export type Verb = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC' | 'VERSION';
