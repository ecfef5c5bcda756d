/** Image names as pods write them, and when they are pulled. */
import { Fault } from '#host/fault.ts';

export type PullPolicy = 'Always' | 'IfNotPresent' | 'Never';

const component = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const domainPart = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const domain = `(?:${domainPart}(?:\\.${domainPart})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?`;
const reference = new RegExp(
  `^(?<name>(?:${domain}/)?${component}(?:/${component})*)(?::(?<tag>\\w[\\w.-]{0,127}))?(?:@(?<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?$`,
);

export interface ImageName {
  /** As written, with `:latest` when it had neither tag nor digest. */
  readonly reference: string;
  /** Registry host with `docker.io` filled in. */
  readonly host: string;
  /** Below the host, with `library/` filled in. */
  readonly path: string;
}

/** Throws Fault('invalid') in the words of Go's reference parser. */
export function parseImageName(image: string): ImageName {
  const groups = reference.exec(image)?.groups;
  const name = groups?.['name'];
  if (groups === undefined || name === undefined) throw new Fault('invalid', `couldn't parse image name ${JSON.stringify(image)}: ${flaw(image)}`);
  const [first = '', ...rest] = name.split('/');
  const hasHost = rest.length > 0 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase());
  const path = hasHost ? rest.join('/') : name;
  const host = hasHost ? first : 'docker.io';
  return {
    reference: groups['tag'] === undefined && groups['digest'] === undefined ? `${image}:latest` : image,
    host,
    path: host === 'docker.io' && !path.includes('/') ? `library/${path}` : path,
  };
}

function flaw(image: string): string {
  const bare = image.split('@')[0]?.replace(/:[\w.-]+$/, '') ?? '';
  if (bare !== bare.toLowerCase() && reference.test(image.toLowerCase())) return `invalid reference format: repository name (${bare.includes('/') ? bare : `library/${bare}`}) must be lowercase`;
  return 'invalid reference format';
}

/** What the API server would have filled in: `Always` for `:latest`, else `IfNotPresent`. */
export function defaultPullPolicy(image: string): PullPolicy {
  const last = image.split('@');
  if (last.length > 1) return 'IfNotPresent';
  const tag = /:([\w.-]+)$/.exec(image.slice(image.lastIndexOf('/') + 1))?.[1] ?? 'latest';
  return tag === 'latest' ? 'Always' : 'IfNotPresent';
}
