/** Digests: what content is called. `sha256:<64 hex>` or `sha512:<128 hex>`, lower case (OCI image-spec 1.1, descriptor.md). */
import { createHash, type Hash } from 'node:crypto';
import { Fault } from '#host/fault.ts';

declare const brand: unique symbol;
export type Digest = string & { readonly [brand]: 'Digest' };

const hexLength = { sha256: 64, sha512: 128 } as const;
export type DigestAlgorithm = keyof typeof hexLength;

const isAlgorithm = (word: string): word is DigestAlgorithm => Object.hasOwn(hexLength, word);

export function isDigest(text: string): text is Digest {
  const colon = text.indexOf(':');
  const algorithm = text.slice(0, colon);
  return colon > 0 && isAlgorithm(algorithm) && text.length === colon + 1 + hexLength[algorithm] && /^[0-9a-f]+$/.test(text.slice(colon + 1));
}

/** Throws Fault invalid with what is wrong. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  const colon = text.indexOf(':');
  if (colon > 0 && !isAlgorithm(text.slice(0, colon))) {
    throw new Fault('invalid', `digest ${JSON.stringify(text)}: algorithm ${JSON.stringify(text.slice(0, colon))} is not supported (sha256 and sha512 are)`);
  }
  throw new Fault('invalid', `${JSON.stringify(text)} is not a digest (expected sha256: and 64 lower-case hexadecimal digits)`);
}

export function algorithmOf(digest: Digest): DigestAlgorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256';
}

export const hexOf = (digest: Digest): string => digest.slice(digest.indexOf(':') + 1);

/** The sha256 digest of bytes in memory. */
export const digestOf = (data: Uint8Array | string): Digest => `sha256:${createHash('sha256').update(data).digest('hex')}` as Digest;

/** Collects bytes until it can say whether they are the content a digest names. */
export class DigestCheck {
  readonly wanted: Digest;
  #hash: Hash;
  constructor(wanted: Digest) {
    this.wanted = wanted;
    this.#hash = createHash(algorithmOf(wanted));
  }
  update(chunk: Uint8Array): void {
    this.#hash.update(chunk);
  }
  /** Starts over. */
  reset(): void {
    this.#hash = createHash(algorithmOf(this.wanted));
  }
  /** The digest of all bytes so far; ends the check. */
  actual(): Digest {
    return `${algorithmOf(this.wanted)}:${this.#hash.digest('hex')}` as Digest;
  }
}

/** Throws Fault invalid unless `data` is what `wanted` names. */
export function verifyDigest(data: Uint8Array, wanted: Digest, what: string): void {
  const check = new DigestCheck(wanted);
  check.update(data);
  const actual = check.actual();
  if (actual !== wanted) throw new Fault('invalid', `${what}: wrong digest: expected ${wanted}, got ${actual}`);
}
