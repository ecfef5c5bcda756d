/** Which manifest of an index is ours: the matching rules of containerd's platforms package (v1.0, `platforms.Only`), best match first. */
import { arch } from 'node:process';

/** Of a descriptor in an index; OCI image-spec 1.1, image-index.md. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

/** Go's names for what Node calls by others. */
const goArchitecture: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };

/** The platform of this machine. An ARM of 32 bits is taken for v7, the oldest that runs Node. */
export function hostPlatform(nodeArchitecture: string = arch): Platform {
  const architecture = goArchitecture[nodeArchitecture] ?? nodeArchitecture;
  return { os: 'linux', architecture, variant: architecture === 'arm' ? 'v7' : architecture === 'arm64' ? 'v8' : '' };
}

/** Spelled one way: `aarch64` is `arm64`, whose v8 is implied, as is v7 of arm and v1 of amd64. */
function normalise(platform: Platform): Required<Platform> {
  let architecture = platform.architecture.toLowerCase();
  let variant = (platform.variant ?? '').toLowerCase();
  if (architecture === 'x86_64' || architecture === 'x86-64') architecture = 'amd64';
  if (architecture === 'i386') architecture = '386';
  if (architecture === 'aarch64') architecture = 'arm64';
  if (architecture === 'armhf') [architecture, variant] = ['arm', 'v7'];
  if (architecture === 'armel') [architecture, variant] = ['arm', 'v6'];
  if (/^[0-9]$/.test(variant)) variant = `v${variant}`;
  if (architecture === 'arm64' && (variant === '' || variant === 'v8.0')) variant = 'v8';
  if (architecture === 'arm' && variant === '') variant = 'v7';
  if (architecture === 'amd64' && variant === 'v1') variant = '';
  return { os: platform.os.toLowerCase(), architecture, variant };
}

/** What this machine can run, best first, as `architecture/variant`. */
function acceptable(host: Platform): string[] {
  const { architecture, variant } = normalise(host);
  const armBelow = (newest: number): string[] => Array.from({ length: newest - 4 }, (_, index) => `arm/v${newest - index}`);
  switch (architecture) {
    case 'amd64':
      return ['amd64/', 'amd64/v2', '386/'];
    case 'arm64':
      return ['arm64/v8', ...armBelow(8)];
    case 'arm':
      return armBelow(Number(variant.slice(1)) || 7);
    default:
      return [`${architecture}/${variant}`, `${architecture}/`];
  }
}

/** How well `candidate` fits: 0 is best, undefined is not at all. */
export function platformRank(candidate: Platform, host: Platform): number | undefined {
  const { os, architecture, variant } = normalise(candidate);
  if (os !== host.os) return undefined;
  const rank = acceptable(host).indexOf(`${architecture}/${variant}`);
  return rank < 0 ? undefined : rank;
}

export const describePlatform = (platform: Platform): string =>
  `${platform.os}/${platform.architecture}${platform.variant === undefined || platform.variant === '' ? '' : `/${platform.variant}`}`;
