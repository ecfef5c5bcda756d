/**
 * Chain ids: the name of a layer together with everything below it (OCI image-spec 1.1, config.md "Layer ChainID").
 * A layer directory depends on what lies below (its implicit parent directories take their attributes from there), so it is kept under this name.
 */
import { createHash } from 'node:crypto';

declare const brand: unique symbol;
/** `sha256:<64 hex>` */
export type ChainId = string & { readonly [brand]: 'ChainId' };

/** Chain ids of the layers with these diff ids, both bottom first. */
export function chainIds(diffIds: readonly string[]): ChainId[] {
  const chain: ChainId[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push((below === undefined ? diffId : `sha256:${createHash('sha256').update(`${below} ${diffId}`).digest('hex')}`) as ChainId);
  }
  return chain;
}

/** A diff id of sha512 makes the lowest chain id one too; directories are called by algorithm and digits. */
export const chainIdToName = (chainId: ChainId): string => (chainId.startsWith('sha256:') ? chainId.slice('sha256:'.length) : chainId.replace(':', '-'));

/** The chain id that a directory is called by, undefined for a name that is none. */
export function nameToChainId(name: string): ChainId | undefined {
  if (/^[0-9a-f]{64}$/.test(name)) return `sha256:${name}` as ChainId;
  if (/^sha512-[0-9a-f]{128}$/.test(name)) return name.replace('-', ':') as ChainId;
  return undefined;
}
