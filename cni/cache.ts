/**
 * What was attached, on disk: <cacheDir>/results/<network>-<containerID>-<ifname>, in libcni's file format, so that its tools can read it.
 *
 * An entry is written before ADD, without a result: whatever an interrupted ADD leaves behind can be undone. It goes away with the last
 * DEL. It holds the whole configuration, so that the network can be undone after its file was changed or removed.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryPrefix, writeFileAtomic } from '#host/atomic-file.ts';
import type { Ctx } from '#host/ctx.ts';
import { namesIn } from '#host/names-in.ts';
import { readIfThere } from '#host/read-if-there.ts';
import type { CniArgs } from './plugin-env.ts';
import type { AttachmentKey, JsonObject } from './types.ts';

const kind = 'cniCacheV1';

export interface CacheEntry extends AttachmentKey {
  readonly networkName: string;
  /** The configuration list as JSON text. */
  readonly config: string;
  readonly netnsPath: string;
  readonly cniArgs: CniArgs;
  readonly capabilityArgs: JsonObject;
  /** Undefined while ADD has not succeeded. */
  readonly result: JsonObject | undefined;
}

/** The file's text. Pure. */
export function encodeEntry(entry: CacheEntry): string {
  return JSON.stringify({
    kind,
    containerId: entry.containerId,
    config: Buffer.from(entry.config, 'utf8').toString('base64'),
    ifName: entry.ifName,
    networkName: entry.networkName,
    netns: entry.netnsPath,
    cniArgs: entry.cniArgs,
    capabilityArgs: entry.capabilityArgs,
    ...(entry.result === undefined ? {} : { result: entry.result }),
  });
}

/** Undefined for what is not an entry: an older libcni's bare result, a damaged file. Pure. */
export function decodeEntry(text: string): CacheEntry | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || value['kind'] !== kind) return undefined;
  const { containerId, ifName, networkName, config, netns, cniArgs, capabilityArgs, result } = value;
  if (!isName(containerId) || !isName(ifName) || !isName(networkName) || typeof config !== 'string') return undefined;
  return {
    containerId,
    ifName,
    networkName,
    config: Buffer.from(config, 'base64').toString('utf8'),
    netnsPath: typeof netns === 'string' ? netns : '',
    cniArgs: Array.isArray(cniArgs) ? cniArgs.filter(isPair) : [],
    capabilityArgs: isObject(capabilityArgs) ? capabilityArgs : {},
    result: isObject(result) ? result : undefined,
  };
}

const isObject = (value: unknown): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value);
const isName = (value: unknown): value is string => typeof value === 'string' && value !== '';
const isPair = (value: unknown): value is [string, string] => Array.isArray(value) && value.length === 2 && value.every((part) => typeof part === 'string');

export class ResultCache {
  readonly #dir: string;
  #made = false;

  constructor(cacheDir: string) {
    this.#dir = join(cacheDir, 'results');
  }

  #path(entry: Pick<CacheEntry, 'networkName' | 'containerId' | 'ifName'>): string {
    return join(this.#dir, `${entry.networkName}-${entry.containerId}-${entry.ifName}`);
  }

  /** Removes what an interrupted write left. Only while nobody writes: at start-up. */
  async removeTemporaries(): Promise<void> {
    for (const name of await namesIn(this.#dir)) if (name.startsWith(temporaryPrefix)) await rm(join(this.#dir, name), { force: true });
  }

  async save(entry: CacheEntry): Promise<void> {
    if (!this.#made) await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    this.#made = true;
    await writeFileAtomic(this.#path(entry), encodeEntry(entry));
  }

  /** Absent is success. */
  async remove(entry: CacheEntry): Promise<void> {
    await rm(this.#path(entry), { force: true });
  }

  /** What is attached as this interface of this container: one network, unless something went wrong before. */
  async find(ctx: Ctx, key: AttachmentKey): Promise<CacheEntry[]> {
    const ending = `-${key.containerId}-${key.ifName}`;
    const found = await this.#read(ctx, (name) => name.endsWith(ending));
    return found.filter((entry) => entry.containerId === key.containerId && entry.ifName === key.ifName);
  }

  list(ctx: Ctx): Promise<CacheEntry[]> {
    return this.#read(ctx, () => true);
  }

  async #read(ctx: Ctx, wanted: (name: string) => boolean): Promise<CacheEntry[]> {
    const names = await namesIn(this.#dir);
    const entries: CacheEntry[] = [];
    for (const name of names.toSorted()) {
      if (name.startsWith(temporaryPrefix) || !wanted(name)) continue;
      const text = await readIfThere(join(this.#dir, name));
      if (text === undefined) continue;
      const entry = decodeEntry(text);
      if (entry === undefined) ctx.log.warn({ file: join(this.#dir, name) }, 'CNI cache: not an entry, ignored');
      else entries.push(entry);
    }
    return entries;
  }
}
