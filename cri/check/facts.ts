/** What `nodelet check` finds out about a machine, before anybody judges it. Plain data: tests write machines down. */

export interface Program {
  readonly name: string;
  /** Undefined: not installed. */
  readonly path: string | undefined;
  /** As it says itself; empty when it does not. */
  readonly version: string;
}

export interface Runtime extends Program {
  /** What it said when it had to create a container; undefined: it did. */
  readonly failure: string | undefined;
}

export interface KernelFacts {
  readonly release: string;
  /** Of /proc/filesystems; a module that is not loaded yet is not in it. */
  readonly fileSystems: readonly string[];
  /** Of /proc/self/ns. */
  readonly namespaces: readonly string[];
  /** user.max_user_namespaces; undefined: the kernel has none. */
  readonly maxUserNamespaces: number | undefined;
  /** Actions of seccomp filters; none: no seccomp. */
  readonly seccompActions: readonly string[];
  readonly appArmor: { readonly isEnabled: boolean; readonly hasParser: boolean };
  readonly selinux: 'absent' | 'permissive' | 'enforcing';
  /** By their names below /proc/sys, dots for slashes; absent ones are not there. */
  readonly sysctls: Readonly<Record<string, string>>;
}

export interface CgroupFacts {
  /** `hybrid`: controllers on v1, and v2 mounted beside them. */
  readonly layout: 'v2' | 'v1' | 'hybrid' | 'none';
  readonly controllers: readonly string[];
  /** Why a group could not be made; undefined: it could. */
  readonly makeFailure: string | undefined;
}

export interface StorageFacts {
  /** The nearest directory above the root that exists. */
  readonly dir: string;
  readonly fileSystem: string;
  readonly totalBytes: number;
  readonly availableBytes: number;
  readonly totalInodes: number;
  readonly freeInodes: number;
  /** Why an overlay on it could not be mounted; undefined: it could. */
  readonly overlayFailure: string | undefined;
}

export interface NetworkFacts {
  readonly confDir: string;
  readonly binDirs: readonly string[];
  /** What the CRI server would say of the pod network. */
  readonly status: { readonly ready: true; readonly network: string; readonly source: string } | { readonly ready: false; readonly message: string };
  /** That status is of a bridge of our own making. */
  readonly isGenerated: boolean;
  readonly defaultRoute: boolean;
  /** Why iptables could not list the nat table; undefined: it could, or it is not installed. */
  readonly natFailure: string | undefined;
}

export interface Listener {
  readonly port: number;
  readonly pid: number | undefined;
  readonly program: string;
}

export interface HostFacts {
  readonly isRoot: boolean;
  readonly hostName: string;
  readonly system: string;
  readonly kernel: KernelFacts;
  readonly cgroup: CgroupFacts;
  readonly runtimes: readonly Runtime[];
  readonly conmon: Program;
  readonly podInit: Program;
  readonly iptables: Program;
  readonly criu: Program;
  readonly storage: StorageFacts;
  readonly network: NetworkFacts;
  readonly swapBytes: number;
  readonly memoryBytes: number;
  /** Of this process; Infinity: none. */
  readonly openFiles: { readonly soft: number; readonly hard: number };
  /** Who listens on the ports that the node wants. */
  readonly listeners: readonly Listener[];
  /** Whether somebody keeps the clock right; undefined: unknown. */
  readonly isClockSynchronised: boolean | undefined;
  readonly nowMs: number;
}

/** What of the configuration the judgement depends on. */
export interface Wanted {
  readonly rootDir: string;
  /** Named in the configuration: each of them has to work. */
  readonly areRuntimesConfigured: boolean;
  readonly defaultRuntime: string | undefined;
  readonly ports: readonly { readonly port: number; readonly what: string }[];
  readonly nodeName: string;
}
