/** What the agent reads from the machine for its pods: addresses, resolv.conf, limits. Looked at again now and then. */
import { readdir, readFile } from 'node:fs/promises';
import type { Cgroups } from '#host/cgroup.ts';
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import { allocatableOf, type NodeAllocatable } from './cgroup/pod-limits.ts';
import type { AgentConfig } from './config.ts';
import { parseResolvConf, type ResolvConf } from './container-config/dns.ts';
import { findNodeIps, type HostInfo } from './node/host-info.ts';
import type { AgentPaths } from './paths.ts';
import type { NodeFacts } from './pod/pod-deps.ts';

const noResolvConf: ResolvConf = { nameservers: [], searches: [], options: [] };

export class NodeFactsReader {
  readonly #config: AgentConfig;
  readonly #host: HostInfo;
  readonly #cgroupV2: boolean;
  readonly #paths: AgentPaths;
  #resolvConf = noResolvConf;
  #hostIPs: readonly string[] = [];
  #extraMaskedPaths: readonly string[] = [];

  constructor(config: AgentConfig, parts: { host: HostInfo; cgroups: Cgroups; paths: AgentPaths }) {
    this.#config = config;
    this.#host = parts.host;
    this.#cgroupV2 = parts.cgroups.version === 2;
    this.#paths = parts.paths;
  }

  /** What pods may have of the machine: all of it without what the configuration keeps back. */
  get allocatable(): NodeAllocatable {
    return allocatableOf({ cpuMilli: this.#host.cores * 1000, memoryBytes: this.#host.memoryBytes }, this.#config.kubeReserved, this.#config.systemReserved);
  }

  /** Reads what may change. A file that cannot be read counts as empty and is logged. */
  async refresh(ctx: Ctx): Promise<void> {
    try {
      this.#resolvConf = parseResolvConf(await readFile(this.#config.resolvConf, 'utf8'));
    } catch (error) {
      ctx.log.warn({ file: this.#config.resolvConf, why: explain(error) }, 'resolv.conf not read: pods get no name servers of the node');
    }
    this.#hostIPs = await findNodeIps(this.#config.nodeIP, this.#config.nodeName);
    const cpus = await readdir('/sys/devices/system/cpu').catch(() => []); // absent without sysfs
    const throttles = await Promise.all(
      cpus.filter((name) => /^cpu\d+$/.test(name)).map(async (name) => {
        const path = `/sys/devices/system/cpu/${name}/thermal_throttle`;
        return readdir(path).then(() => [path], () => []); // most virtual machines have none
      }),
    );
    this.#extraMaskedPaths = throttles.flat();
  }

  facts(): NodeFacts {
    const { cpuMilli, memoryBytes } = this.allocatable;
    return {
      hostIPs: this.#hostIPs,
      allocatable: { cpu: `${cpuMilli}m`, memory: String(memoryBytes), pods: String(this.#config.maxPods) },
      dns: { node: this.#resolvConf, clusterDNS: this.#config.clusterDNS, clusterDomain: this.#config.clusterDomain, isStandalone: this.#config.kubeconfig === undefined },
      security: { seccompDir: this.#paths.seccompDir, seccompDefault: this.#config.seccompDefault, extraMaskedPaths: this.#extraMaskedPaths },
      resources: { cpuQuota: this.#config.cpuCFSQuota, cgroupV2: this.#cgroupV2 },
      memoryBytes: this.#host.memoryBytes,
    };
  }
}
