/** One verb over a chain of plugins. ADD forwards with the previous result handed on; DEL backwards, the way the spec wants it. */
import type { Ctx } from '#host/ctx.ts';
import { CniError } from './errors.ts';
import { execPlugin } from './exec.ts';
import { isIdle } from './idle.ts';
import type { Call, CniArgs } from './plugin-env.ts';
import { parseResult, readResult } from './result.ts';
import { pluginStdin } from './runtime-conf.ts';
import type { CniResult, JsonObject, Network, PluginConf } from './types.ts';
import { hasCheck, hasStatus } from './version.ts';

/** The runtime's side of a call: the same for every plugin of the chain. */
export interface ChainCall {
  readonly containerId: string;
  readonly netnsPath: string;
  readonly ifName: string;
  readonly cniArgs: CniArgs;
  readonly capabilityArgs: JsonObject;
}

/** The plugins that have something to do for this attachment, which is the same at ADD, CHECK and DEL. */
const busy = (network: Network, chain: ChainCall): PluginConf[] => network.plugins.filter((plugin, index) => !isIdle(plugin, index, chain.capabilityArgs));

const callOf = (verb: Call['verb'], chain: ChainCall): Call => ({ verb, containerId: chain.containerId, netnsPath: chain.netnsPath, ifName: chain.ifName, args: chain.cniArgs });

/** Throws CniError of the first plugin that fails; what the ones before it made is undone by `delNetwork`, which the caller must call. */
export async function addNetwork(ctx: Ctx, network: Network, options: { binDirs: readonly string[]; chain: ChainCall }): Promise<CniResult> {
  const { binDirs, chain } = options;
  let result: CniResult | undefined;
  for (const plugin of busy(network, chain)) {
    const stdin = pluginStdin(network, plugin, { prevResult: result?.raw, capabilityArgs: chain.capabilityArgs });
    const stdout = await execPlugin(ctx, { ...callOf('ADD', chain), plugin: plugin.type, stdin }, binDirs);
    try {
      result = parseResult(stdout, network.cniVersion);
    } catch (error) {
      throw new CniError({ plugin: plugin.type, verb: 'ADD', msg: error instanceof Error ? error.message : String(error) }, error);
    }
  }
  // conf.ts refuses an empty chain, so there is a result.
  return result ?? readResult({}, network.cniVersion);
}

export interface UndoOptions {
  readonly binDirs: readonly string[];
  readonly chain: ChainCall;
  readonly result: JsonObject | undefined;
}

/** The remembered result in the network's version; none for versions before 0.4, and none if it cannot be read (as libcni). */
function previous(network: Network, result: JsonObject | undefined): JsonObject | undefined {
  if (result === undefined || !hasCheck(network.cniVersion)) return undefined;
  try {
    return readResult(result, network.cniVersion).raw;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Stops at the first plugin that fails: a later try starts again at the end of the chain, and DEL of what is gone is success. */
export async function delNetwork(ctx: Ctx, network: Network, { binDirs, chain, result }: UndoOptions): Promise<void> {
  const prevResult = previous(network, result);
  for (const plugin of busy(network, chain).toReversed()) {
    const stdin = pluginStdin(network, plugin, { prevResult, capabilityArgs: chain.capabilityArgs });
    await execPlugin(ctx, { ...callOf('DEL', chain), plugin: plugin.type, stdin }, binDirs);
  }
}

/** Nothing for versions before 0.4 or with `disableCheck`. */
export async function checkNetwork(ctx: Ctx, network: Network, { binDirs, chain, result }: UndoOptions): Promise<void> {
  if (network.disableCheck || !hasCheck(network.cniVersion)) return;
  const prevResult = previous(network, result);
  for (const plugin of busy(network, chain)) {
    const stdin = pluginStdin(network, plugin, { prevResult, capabilityArgs: chain.capabilityArgs });
    await execPlugin(ctx, { ...callOf('CHECK', chain), plugin: plugin.type, stdin }, binDirs);
  }
}

/** Throws the CniError of the first plugin that says it cannot take pods. Nothing before version 1.1. */
export async function statusOfNetwork(ctx: Ctx, network: Network, binDirs: readonly string[]): Promise<void> {
  if (!hasStatus(network.cniVersion)) return;
  for (const plugin of network.plugins) await execPlugin(ctx, { verb: 'STATUS', plugin: plugin.type, stdin: pluginStdin(network, plugin) }, binDirs);
}

/** Tells every plugin which attachments are real. Tries all; the faults of those that failed are returned. */
export async function gcNetwork(ctx: Ctx, network: Network, options: { binDirs: readonly string[]; valid: readonly { containerId: string; ifName: string }[] }): Promise<CniError[]> {
  if (network.disableGC || !hasStatus(network.cniVersion)) return [];
  const validAttachments = options.valid.map(({ containerId, ifName }) => ({ containerID: containerId, ifname: ifName }));
  const failed: CniError[] = [];
  for (const plugin of network.plugins) {
    try {
      await execPlugin(ctx, { verb: 'GC', plugin: plugin.type, stdin: pluginStdin(network, plugin, { validAttachments }) }, options.binDirs);
    } catch (error) {
      if (!(error instanceof CniError)) throw error;
      failed.push(error);
    }
  }
  return failed;
}
