/**
 * The pod network of this node: which configuration holds now, is it usable, and attaching and detaching pods.
 *
 * The first valid file of the configuration directory wins. Without one, a bridge is generated from the pod CIDRs and kept in our own
 * cache directory, never in the configuration directory: a network add-on's file takes over as soon as it appears.
 * Pods are always detached with the configuration they were attached with.
 */
import { mkdir, readFile, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '#host/atomic-file.ts';
import type { Ctx } from '#host/ctx.ts';
import { withTimeout } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { explain, Fault } from '#host/fault.ts';
import { watchDirectory } from '#host/watch-dir.ts';
import { ResultCache, type CacheEntry } from './cache.ts';
import { parseConfFile, withVersion } from './conf.ts';
import { loadConfDir } from './conf-dir.ts';
import { checkPodCidrs, defaultNetwork, defaultNetworkFor, podCidrsOf, type DefaultNetworkOptions } from './default-network.ts';
import { CniError } from './errors.ts';
import { pluginVersions } from './exec.ts';
import { ensureMasquerade, removeMasquerade } from './masquerade.ts';
import { addNetwork, checkNetwork, delNetwork, gcNetwork, statusOfNetwork, type ChainCall } from './network.ts';
import { checkAttachment, cniArgs } from './plugin-env.ts';
import { readResult } from './result.ts';
import { capabilityArgs } from './runtime-conf.ts';
import type { Attachment, AttachmentKey, CniResult, Network } from './types.ts';

export interface CniOptions {
  readonly confDir: string;
  /** Searched in this order. */
  readonly binDirs: readonly string[];
  readonly cacheDir: string;
  /** What to generate from while the directory has no configuration. More can come later by `setPodCidrs`. */
  readonly defaultNetwork?: { readonly podCidrs: readonly string[]; readonly bridge?: string } | undefined;
  /** False: never generate a network, whatever pod CIDR is announced (a cluster whose add-on is installed late). Default true. */
  readonly generate?: boolean;
  /** The iptables chain for the generated network, or false to leave iptables alone. Default NODELET-MASQ. */
  readonly masquerade?: { readonly chain: string } | false;
  /** How long the plugins of one chain may take together, for each verb. Default 2 minutes. */
  readonly timeoutMs?: number;
}

export type CniStatus =
  | { readonly ready: true; readonly network: string; readonly source: string; readonly cniVersion: string; readonly config: string }
  | { readonly ready: false; readonly message: string };

const defaultTimeoutMs = 120_000;
/** VERSION and STATUS must not hold up a reload. */
const probeTimeoutMs = 10_000;
/** status() asks the plugins again when the last answer is older. */
const statusMaxAgeMs = 5_000;
const magicOfNsfs = 0x6e736673;
const magicOfProc = 0x9fa0;

interface Current {
  /** With the version that was agreed on. */
  readonly network: Network;
  /** As it was read: tells whether the next reading is another network. */
  readonly text: string;
  readonly generated: DefaultNetworkOptions | undefined;
}

export class Cni {
  #options: CniOptions;
  readonly #cache: ResultCache;
  #ctx: Ctx | undefined;
  #current: Current | undefined;
  #problems: readonly string[] = [];
  /** Why the current network cannot be used. */
  #fault: Error | undefined;
  #podCidrs: readonly string[] = [];
  #masqueradeFor: string | undefined;
  #masqueradeProblem = '';
  #probedAtMs = 0;
  #refreshing: Promise<void> | undefined;
  #watching = new AbortController();
  #again = false;
  /** Containers whose ADD or DEL is running: not stale, whatever a collection was told. */
  readonly #busy = new Map<string, number>();

  constructor(options: CniOptions) {
    this.#options = options;
    this.#cache = new ResultCache(options.cacheDir);
    this.#podCidrs = options.defaultNetwork?.podCidrs ?? [];
  }

  /** Loads the configuration and follows its changes until `ctx` is given up. Throws only for pod CIDRs that are none. */
  async start(ctx: Ctx): Promise<void> {
    this.#ctx = ctx;
    await this.#cache.removeTemporaries();
    const given = checkPodCidrs(this.#podCidrs).map((subnet) => subnet.cidr);
    this.#podCidrs = given.length > 0 ? given : await this.#rememberedCidrs(ctx);
    if (given.length > 0) await this.#remember(given);
    this.#watch(ctx);
    await this.refresh(ctx);
  }

  #watch(ctx: Ctx): void {
    this.#watching.abort();
    this.#watching = new AbortController();
    const watching = { ...ctx, signal: AbortSignal.any([ctx.signal, this.#watching.signal]) };
    const again = (): void => void this.refresh(ctx);
    watchDirectory(watching, this.#options.confDir, again);
    // A plugin that was missing may be installed without any change of the configuration.
    for (const dir of this.#options.binDirs) watchDirectory(watching, dir, again, { debounceMs: 500, rescanMs: 300_000 });
  }

  /** Other directories from now on. Pods that have their network keep it, and are detached with the configuration they were attached with. */
  reconfigure(dirs: Pick<CniOptions, 'confDir' | 'binDirs'>): void {
    this.#options = { ...this.#options, ...dirs };
    if (this.#ctx === undefined) return;
    this.#watch(this.#ctx);
    void this.refresh(this.#ctx);
  }

  /** In words that reach the Node's Ready condition; the beginning is containerd's. */
  status(): CniStatus {
    const ctx = this.#ctx;
    if (ctx !== undefined && performance.now() - this.#probedAtMs > statusMaxAgeMs) void this.refresh(ctx);
    if (this.#current === undefined) return { ready: false, message: `Network plugin returns error: ${this.#notInitialized()}` };
    if (this.#fault !== undefined) return { ready: false, message: `Network plugin returns error: ${explain(this.#fault)}` };
    const { name, source, cniVersion, text } = this.#current.network;
    return { ready: true, network: name, source, cniVersion, config: text };
  }

  #notInitialized(): string {
    const why = this.#problems.length > 0 ? this.#problems.join('; ') : `no network configuration in ${this.#options.confDir}`;
    return `cni plugin not initialized: ${why}`;
  }

  /** UpdateRuntimeConfig. Kept over restarts; used only while there is no configuration file. None, or blank ones: no change. Throws Fault invalid. */
  async setPodCidrs(cidrs: readonly string[]): Promise<void> {
    const canonical = checkPodCidrs(cidrs.filter((cidr) => cidr.trim() !== '')).map((subnet) => subnet.cidr);
    if (canonical.length === 0 || canonical.join() === this.#podCidrs.join()) return;
    await this.#remember(canonical);
    this.#podCidrs = canonical;
    if (this.#ctx !== undefined) await this.refresh(this.#ctx);
  }

  get #generatedPath(): string {
    return join(this.#options.cacheDir, 'nodelet.conflist');
  }

  #generator(podCidrs: readonly string[]): DefaultNetworkOptions {
    return { podCidrs, bridge: this.#options.defaultNetwork?.bridge, addressDir: join(this.#options.cacheDir, 'networks') };
  }

  async #remember(podCidrs: readonly string[]): Promise<void> {
    await mkdir(this.#options.cacheDir, { recursive: true, mode: 0o700 });
    await writeFileAtomic(this.#generatedPath, defaultNetwork(this.#generator(podCidrs)).text);
  }

  async #rememberedCidrs(ctx: Ctx): Promise<string[]> {
    try {
      return podCidrsOf(await readFile(this.#generatedPath, 'utf8'), this.#generatedPath);
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) ctx.log.warn({ err: error }, 'CNI: the remembered pod CIDR cannot be read');
      return [];
    }
  }

  /** Looks at the directory and asks the plugins again. One at a time; a wish during a run makes one more run. Never rejects. */
  async refresh(ctx: Ctx): Promise<void> {
    this.#again = true;
    this.#refreshing ??= (async (): Promise<void> => {
      while (this.#again && !ctx.signal.aborted) {
        this.#again = false;
        this.#probedAtMs = performance.now();
        await this.#refreshOnce(ctx).catch((error: unknown) => {
          this.#fault = error instanceof Error ? error : new Error(String(error));
          if (!ctx.signal.aborted) ctx.log.error({ err: error }, 'CNI: reload failed');
        });
      }
      this.#refreshing = undefined;
    })();
    await this.#refreshing;
  }

  async #refreshOnce(ctx: Ctx): Promise<void> {
    const loaded = await loadConfDir(this.#options.confDir);
    if (loaded.problems.join('\n') !== this.#problems.join('\n')) {
      for (const problem of loaded.problems) ctx.log.error({ problem }, 'CNI configuration file skipped');
    }
    this.#problems = loaded.problems;
    const current = this.#choose(loaded.network);
    if (current === undefined) {
      if (this.#current !== undefined) ctx.log.warn({ dir: this.#options.confDir }, 'no CNI configuration any more');
      this.#current = undefined;
      this.#fault = undefined;
      return;
    }
    const before = this.#current;
    const isNew = before === undefined || before.network.source !== current.network.source || before.text !== current.text;
    const soon = withTimeout(ctx, Math.min(probeTimeoutMs, this.#timeoutMs));
    let fault: Error | undefined;
    let network = current.network;
    try {
      if (isNew || this.#fault !== undefined) network = await this.#negotiate(soon, network);
      else network = before.network;
      await statusOfNetwork(soon, network, this.#options.binDirs);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      fault = error;
    }
    ctx.signal.throwIfAborted();
    this.#current = { ...current, network };
    if (isNew) ctx.log.info({ network: network.name, source: network.source, cniVersion: network.cniVersion }, 'CNI network');
    if (fault !== undefined && fault.message !== this.#fault?.message) ctx.log.warn({ err: fault }, 'CNI network not usable');
    this.#fault = fault;
    await this.#masquerade(ctx);
  }

  #choose(configured: Network | undefined): Current | undefined {
    if (configured !== undefined) return { network: configured, text: configured.text, generated: undefined };
    if (this.#options.generate === false || this.#podCidrs.length === 0) return undefined;
    const generated = this.#generator(this.#podCidrs);
    const { text } = defaultNetwork(generated);
    return { network: { ...defaultNetworkFor(generated, {}), text }, text, generated };
  }

  /** The newest version that the file declares and every plugin speaks. Throws Fault when there is none or a plugin is missing. */
  async #negotiate(ctx: Ctx, network: Network): Promise<Network> {
    const spoken = new Map<string, readonly string[]>();
    for (const plugin of network.plugins) {
      if (!spoken.has(plugin.type)) spoken.set(plugin.type, await pluginVersions(ctx, plugin.type, this.#options.binDirs));
    }
    const declaredVersions = network.versions.length > 0 ? network.versions : [network.cniVersion];
    const common = declaredVersions.filter((version) => [...spoken.values()].every((versions) => versions.includes(version)));
    const best = common.at(-1);
    if (best === network.cniVersion) return network;
    if (best !== undefined) return withVersion(network, best);
    const [plugin, versions] = [...spoken].find(([, known]) => !declaredVersions.some((version) => known.includes(version))) ?? [];
    const told = plugin === undefined ? 'its plugins have no version in common' : `plugin ${plugin} speaks ${(versions ?? []).join(', ')}`;
    throw new Fault('precondition', `${network.source}: cniVersion: ${declaredVersions.join(', ')}: ${told}`);
  }

  /** Set up while the generated network is in use, taken away when it no longer is. A failure is told once, stops nothing, and is tried again. */
  async #masquerade(ctx: Ctx): Promise<void> {
    const { masquerade } = this.#options;
    if (masquerade === false) return;
    const podCidrs = this.#current?.generated?.podCidrs ?? [];
    const wanted = podCidrs.join();
    if (wanted === this.#masqueradeFor || (wanted === '' && this.#podCidrs.length === 0)) return;
    try {
      const chain = masquerade?.chain;
      if (podCidrs.length > 0) await ensureMasquerade(ctx, { podCidrs, chain });
      else await removeMasquerade(ctx, { chain });
      this.#masqueradeFor = wanted;
      this.#masqueradeProblem = '';
    } catch (error) {
      const problem = explain(error);
      if (!ctx.signal.aborted && problem !== this.#masqueradeProblem) ctx.log.warn({ err: error }, 'masquerading not set up');
      this.#masqueradeProblem = problem;
    }
  }

  /** Throws CniError, or Fault unavailable without a network. After a failure `del` must be called: it undoes what was begun. */
  async add(ctx: Ctx, attachment: Attachment): Promise<CniResult> {
    checkAttachment(attachment);
    const current = this.#current;
    if (current === undefined) throw new Fault('unavailable', this.#notInitialized());
    const network = current.generated === undefined ? current.network : defaultNetworkFor(current.generated, attachment);
    const { containerId, ifName, netnsPath = '' } = attachment;
    const chain: ChainCall = { containerId, ifName, netnsPath, cniArgs: cniArgs(attachment), capabilityArgs: capabilityArgs(attachment) };
    const entry: CacheEntry = { ...chain, networkName: network.name, config: network.text, result: undefined };
    return this.#whileBusy(containerId, async () => {
      await this.#cache.save(entry);
      const result = await addNetwork(this.#limited(ctx), network, { binDirs: this.#options.binDirs, chain });
      await this.#cache.save({ ...entry, result: result.raw });
      return result;
    });
  }

  /**
   * Undoes whatever the cache knows of this interface; nothing known is success. Throws CniError of the plugin that failed; the cache
   * keeps the attachment then, and the next call tries again.
   */
  async del(ctx: Ctx, attachment: AttachmentKey & { readonly netnsPath?: string | undefined }): Promise<void> {
    await this.#whileBusy(attachment.containerId, async () => {
      for (const entry of await this.#cache.find(ctx, attachment)) await this.#undo(ctx, entry, attachment.netnsPath);
    });
  }

  async #undo(ctx: Ctx, entry: CacheEntry, netnsPath: string | undefined): Promise<void> {
    const network = this.#networkOf(entry);
    if (network === undefined) {
      ctx.log.warn({ network: entry.networkName, sandbox: entry.containerId }, 'CNI cache: the configuration of an attachment cannot be read; it is forgotten');
    } else {
      const path = netnsPath ?? entry.netnsPath;
      const chain = { ...entry, netnsPath: (await isNamespace(path)) ? path : '' };
      await delNetwork(this.#limited(ctx), network, { binDirs: this.#options.binDirs, chain, result: entry.result });
    }
    await this.#cache.remove(entry);
  }

  #networkOf(entry: CacheEntry): Network | undefined {
    try {
      return parseConfFile({ path: `${entry.networkName} as cached.conflist`, text: entry.config });
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      const now = this.#current?.network;
      return now?.name === entry.networkName ? now : undefined;
    }
  }

  /** Throws CniError when the network of a pod is not as it was made, Fault not-found when nothing is attached. */
  async check(ctx: Ctx, attachment: AttachmentKey): Promise<void> {
    const [entry] = await this.#cache.find(ctx, attachment);
    const network = entry === undefined ? undefined : this.#networkOf(entry);
    if (entry === undefined || network === undefined) throw new Fault('not-found', `no network attached to ${attachment.ifName} of ${attachment.containerId}`);
    await checkNetwork(this.#limited(ctx), network, { binDirs: this.#options.binDirs, chain: entry, result: entry.result });
  }

  /** The containers of which anything is attached, or may be. */
  async attached(ctx: Ctx): Promise<Set<string>> {
    return new Set((await this.#cache.list(ctx)).map(({ containerId }) => containerId));
  }

  /** The result that ADD gave, from the cache; undefined when there is none. */
  async resultOf(ctx: Ctx, attachment: AttachmentKey): Promise<CniResult | undefined> {
    const entry = (await this.#cache.find(ctx, attachment)).find(({ result }) => result !== undefined);
    const version = entry?.result?.['cniVersion'];
    return entry?.result === undefined ? undefined : readResult(entry.result, typeof version === 'string' ? version : '1.0.0');
  }

  /**
   * Detaches what the cache knows and `valid` does not name, then, from version 1.1 on, tells the plugins what is valid. Goes on after
   * failures, which are logged; what could not be detached stays in the cache for the next time. `valid` is asked again before each step,
   * for pods come meanwhile; one that goes is left to the next collection.
   */
  async gc(ctx: Ctx, valid: () => readonly AttachmentKey[]): Promise<void> {
    const nameOf = ({ containerId, ifName }: AttachmentKey): string => `${containerId} ${ifName}`;
    const entries = await this.#cache.list(ctx);
    const atFirst = new Set(valid().map(nameOf));
    const inUse = (key: AttachmentKey): boolean => atFirst.has(nameOf(key)) || this.#busy.has(key.containerId) || valid().some((each) => nameOf(each) === nameOf(key));
    for (const entry of entries) {
      if (inUse(entry)) continue;
      try {
        await this.#whileBusy(entry.containerId, () => this.#undo(ctx, entry, undefined));
        ctx.log.info({ network: entry.networkName, sandbox: entry.containerId }, 'stale CNI attachment removed');
      } catch (error) {
        if (!(error instanceof CniError) || ctx.signal.aborted) throw error;
        ctx.log.warn({ err: error, sandbox: entry.containerId }, 'stale CNI attachment not removed');
      }
    }
    const network = this.#current?.network;
    if (network === undefined) return;
    const running = [...(await this.#cache.list(ctx)).filter(({ containerId }) => this.#busy.has(containerId)), ...valid()];
    const failed = await gcNetwork(this.#limited(ctx), network, { binDirs: this.#options.binDirs, valid: running });
    for (const error of failed) ctx.log.warn({ err: error }, 'CNI garbage collection');
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? defaultTimeoutMs;
  }

  #limited(ctx: Ctx): Ctx {
    return withTimeout(ctx, this.#timeoutMs);
  }

  async #whileBusy<T>(containerId: string, task: () => Promise<T>): Promise<T> {
    this.#busy.set(containerId, (this.#busy.get(containerId) ?? 0) + 1);
    try {
      return await task();
    } finally {
      const left = (this.#busy.get(containerId) ?? 1) - 1;
      if (left > 0) this.#busy.set(containerId, left);
      else this.#busy.delete(containerId);
    }
  }
}

/** True for a live namespace: not for a path that is gone, nor for the empty file below an unmounted pin. */
async function isNamespace(path: string): Promise<boolean> {
  if (path === '') return false;
  try {
    const { type } = await statfs(path);
    return type === magicOfNsfs || type === magicOfProc;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EINVAL', 'ESRCH')) return false;
    throw error;
  }
}
