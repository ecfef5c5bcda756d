/**
 * Image references: `[domain/]path[:tag][@digest]`, in the grammar and with the normalisation of distribution/reference 0.6 that docker,
 * containerd and the kubelet share: `busybox` is `docker.io/library/busybox:latest`, and a tag beside a digest means nothing.
 */
import { Fault } from '#host/fault.ts';
import { parseDigest, type Digest } from './digest.ts';

/** Normalised: exactly one of `tag` and `digest` is set. */
export interface Reference {
  /** With its port, if any: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly domain: string;
  /** Below the domain: `library/busybox`. */
  readonly path: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

const defaultDomain = 'docker.io';
const defaultTag = 'latest';
const maxPathLength = 255;

const domainName = /^(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*(?::[0-9]+)?$/;
const ipv6Domain = /^\[[a-fA-F0-9:]+\](?::[0-9]+)?$/;
const pathComponent = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/;
const tagWord = /^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$/;

const bad = (text: string, why: string): Fault => new Fault('invalid', `invalid image reference ${JSON.stringify(text.slice(0, 300))}: ${why}`);

/** Throws Fault invalid that names the reference and what is wrong with it. */
export function parseReference(text: string): Reference {
  if (text === '') throw bad(text, 'it is empty');
  if (text.length > 1024) throw bad(text, 'it is longer than 1024 characters');
  if (/\s/.test(text)) throw bad(text, 'it contains white space');
  if (text.includes('://')) throw bad(text, 'it starts with a scheme; write it without (registry.example.com/path:tag)');
  if (/^[0-9a-f]{64}$/.test(text)) throw bad(text, 'it is an image id, not a name');
  const { name, tag, digest } = splitReference(text);
  const { domain, path } = splitDomain(name);
  if (!domainName.test(domain) && !ipv6Domain.test(domain)) throw bad(text, `${JSON.stringify(domain)} is not a registry host`);
  checkPath(text, path);
  if (digest !== undefined) return { domain, path, tag: undefined, digest };
  return { domain, path, tag: tag ?? defaultTag, digest: undefined };
}

function splitReference(text: string): { name: string; tag: string | undefined; digest: Digest | undefined } {
  let name = text;
  let digest: Digest | undefined;
  const at = name.indexOf('@');
  if (at >= 0) {
    try {
      digest = parseDigest(name.slice(at + 1));
    } catch (cause) {
      throw bad(text, cause instanceof Error ? cause.message : String(cause));
    }
    name = name.slice(0, at);
  }
  const colon = name.lastIndexOf(':');
  if (colon <= name.lastIndexOf('/')) return { name, tag: undefined, digest };
  const tag = name.slice(colon + 1);
  if (!tagWord.test(tag)) throw bad(text, tag === '' ? 'the tag after ":" is empty' : `${JSON.stringify(tag)} is not a tag`);
  return { name: name.slice(0, colon), tag, digest };
}

/** The part before the first slash is a host if it looks like one; otherwise the host is docker.io. */
function splitDomain(name: string): { domain: string; path: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  const isHost = slash >= 0 && (/[.:]/.test(first) || first === 'localhost' || first.toLowerCase() !== first);
  let domain = isHost ? first : defaultDomain;
  let path = isHost ? name.slice(slash + 1) : name;
  if (domain === 'index.docker.io') domain = defaultDomain;
  if (domain === defaultDomain && !path.includes('/')) path = `library/${path}`;
  return { domain, path };
}

function checkPath(text: string, path: string): void {
  const shown = path.startsWith('library/') ? path.slice('library/'.length) : path;
  if (shown === '') throw bad(text, 'the repository name is missing');
  if (path.length > maxPathLength) throw bad(text, `the repository name is longer than ${maxPathLength} characters`);
  if (path.toLowerCase() !== path) throw bad(text, `the repository name (${shown}) must be lower case`);
  for (const component of path.split('/')) {
    if (!pathComponent.test(component)) {
      throw bad(text, component === '' ? 'the repository name has an empty part' : `${JSON.stringify(component)} is not allowed in a repository name`);
    }
  }
}

/** `docker.io/library/busybox` */
export const repositoryOf = (reference: Reference): string => `${reference.domain}/${reference.path}`;

/** `docker.io/library/busybox:latest` or `docker.io/library/busybox@sha256:…` */
export const formatReference = (reference: Reference): string =>
  reference.digest === undefined ? `${repositoryOf(reference)}:${reference.tag ?? defaultTag}` : `${repositoryOf(reference)}@${reference.digest}`;
