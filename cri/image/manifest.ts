/**
 * Manifests, indexes and image configurations, OCI image-spec 1.1 and docker schema 2: parsed and checked, as they come from strangers.
 * What is not used is not looked at.
 */
import { Fault } from '#host/fault.ts';
import { isDigest, parseDigest, type Digest } from './digest.ts';
import { describePlatform, platformRank, type Platform } from './platform.ts';

export const mediaTypes = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
} as const;

/** For the Accept header. */
export const manifestMediaTypes: readonly string[] = [mediaTypes.ociIndex, mediaTypes.dockerList, mediaTypes.ociManifest, mediaTypes.dockerManifest];

/** Registries refuse manifests above 4 MiB; distribution-spec asks for at least that. */
export const maxManifestBytes = 8 * 1024 * 1024;
export const maxConfigBytes = 16 * 1024 * 1024;
/** overlayfs takes 500 lower directories, docker 127. */
const maxLayers = 500;
const maxIndexEntries = 10_000;

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly platform: Platform | undefined;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface Manifest {
  readonly config: Descriptor;
  /** Bottom first. */
  readonly layers: readonly Descriptor[];
}

export type ManifestOrIndex = { readonly kind: 'manifest'; readonly manifest: Manifest } | { readonly kind: 'index'; readonly entries: readonly Descriptor[] };

/** What a container is made from. */
export interface RunConfig {
  readonly user: string;
  /** `KEY=value` words. */
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDir: string;
  /** Paths of VOLUME instructions. */
  readonly volumes: readonly string[];
  /** As written (`SIGTERM`, `15`, `RTMIN+3`), empty when there is none. */
  readonly stopSignal: string;
  readonly labels: Readonly<Record<string, string>>;
  /** `80/tcp` */
  readonly exposedPorts: readonly string[];
  readonly os: string;
  readonly architecture: string;
}

export interface ImageConfig {
  readonly run: RunConfig;
  /** Bottom first. */
  readonly diffIds: readonly Digest[];
}

type Fields = Readonly<Record<string, unknown>>;
const isFields = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);
const broken = (what: string, why: string): Fault => new Fault('invalid', `${what}: ${why}`);

function parseJson(data: Uint8Array, what: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(data).toString('utf8'));
  } catch (cause) {
    throw broken(what, `is not JSON (${cause instanceof Error ? cause.message : String(cause)})`);
  }
  if (!isFields(value)) throw broken(what, 'is not a JSON object');
  return value;
}

/** Absent and null are empty (Go writes nil slices as null). */
function stringList(value: unknown, what: string): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) throw broken(what, 'is not a list of strings');
  return value;
}
function text(value: unknown, what: string): string {
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string') throw broken(what, 'is not a string');
  return value;
}
function stringMap(value: unknown, what: string): Record<string, string> {
  if (value === undefined || value === null) return {};
  if (!isFields(value)) throw broken(what, 'is not an object');
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, text(item, `${what}.${key}`)]));
}
const keysOf = (value: unknown): string[] => (isFields(value) ? Object.keys(value) : []);

function descriptor(value: unknown, what: string): Descriptor {
  if (!isFields(value)) throw broken(what, 'is not a descriptor');
  const { size } = value;
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw broken(what, 'size is not a whole number of bytes');
  const digest = text(value['digest'], `${what}.digest`);
  if (!isDigest(digest)) parseOr(what, digest);
  const { platform } = value;
  return {
    mediaType: text(value['mediaType'], `${what}.mediaType`),
    digest: digest as Digest,
    sizeBytes: size,
    platform: isFields(platform)
      ? {
          os: text(platform['os'], `${what}.platform.os`),
          architecture: text(platform['architecture'], `${what}.platform.architecture`),
          variant: text(platform['variant'], `${what}.platform.variant`),
        }
      : undefined,
    annotations: stringMap(value['annotations'], `${what}.annotations`),
  };
}
function parseOr(what: string, digest: string): void {
  try {
    parseDigest(digest);
  } catch (cause) {
    throw broken(`${what}.digest`, cause instanceof Error ? cause.message : String(cause));
  }
}

/** `mediaType` is what the registry or the descriptor said, empty if nothing; what the document says of itself must not contradict it. */
export function parseManifest(data: Uint8Array, mediaType: string, what: string): ManifestOrIndex {
  if (data.length > maxManifestBytes) throw broken(what, `is larger than ${maxManifestBytes} bytes`);
  const document = parseJson(data, what);
  if (document['schemaVersion'] === 1 || Array.isArray(document['fsLayers'])) {
    throw broken(what, 'is a docker schema 1 manifest, a format withdrawn in 2017; push the image again with a current tool');
  }
  const said = text(document['mediaType'], `${what}.mediaType`);
  // A web server that knows nothing of images says application/json.
  const header = mediaType.split(';', 1)[0]?.trim() ?? '';
  const type = said !== '' ? said : manifestMediaTypes.includes(header) ? header : '';
  const looksLikeIndex = Array.isArray(document['manifests']);
  if (looksLikeIndex && isFields(document['config'])) throw broken(what, 'has both manifests and config: it is ambiguous');
  if (type === mediaTypes.ociIndex || type === mediaTypes.dockerList || (type === '' && looksLikeIndex)) {
    const { manifests } = document;
    if (!Array.isArray(manifests)) throw broken(what, 'is an index without manifests');
    if (manifests.length > maxIndexEntries) throw broken(what, `lists more than ${maxIndexEntries} manifests`);
    return { kind: 'index', entries: manifests.map((entry, index) => descriptor(entry, `${what}: manifests[${index}]`)) };
  }
  if (looksLikeIndex) throw broken(what, `calls itself ${type} but is an index`);
  return { kind: 'manifest', manifest: parseImageManifest(document, type, what) };
}

function parseImageManifest(document: Fields, type: string, what: string): Manifest {
  if (!isFields(document['config'])) {
    throw broken(what, type === '' ? 'is neither a manifest nor an index' : `of type ${type} is not an image manifest (it has no config)`);
  }
  const config = descriptor(document['config'], `${what}: config`);
  const isImage = config.mediaType === mediaTypes.ociConfig || config.mediaType === mediaTypes.dockerConfig || config.mediaType === '';
  if (!isImage) {
    throw broken(what, `is not a container image but an artifact of type ${text(document['artifactType'], `${what}.artifactType`) || config.mediaType}`);
  }
  const { layers } = document;
  if (layers !== undefined && layers !== null && !Array.isArray(layers)) throw broken(what, 'layers is not a list');
  const list = (layers ?? []) as unknown[];
  if (list.length > maxLayers) throw broken(what, `has more than ${maxLayers} layers`);
  const parsed = list.map((layer, index) => descriptor(layer, `${what}: layers[${index}]`));
  const encrypted = parsed.findIndex((layer) => layer.mediaType.endsWith('+encrypted'));
  if (encrypted >= 0) throw broken(what, `layers[${encrypted}] is encrypted, which is not supported`);
  const elsewhere = list.findIndex((layer, index) => isElsewhere(layer, parsed[index]?.mediaType ?? ''));
  if (elsewhere >= 0) throw broken(what, `layers[${elsewhere}] is a foreign layer, which its registry does not have; that is not supported`);
  return { config, layers: parsed };
}

/** Windows base layers once were only at Microsoft's; what merely may not be distributed can be in a registry all the same. */
const isElsewhere = (layer: unknown, mediaType: string): boolean =>
  /\.foreign\.|\.nondistributable\./.test(mediaType) && isFields(layer) && Array.isArray(layer['urls']) && layer['urls'].length > 0;

/** The entry of an index for `host`, the best match; of equals the first. Throws Fault not-found that lists what there is. */
export function chooseManifest(entries: readonly Descriptor[], host: Platform, what: string): Descriptor {
  let best: { entry: Descriptor; rank: number } | undefined;
  for (const entry of entries) {
    const rank = entry.platform === undefined ? undefined : platformRank(entry.platform, host);
    if (rank !== undefined && (best === undefined || rank < best.rank)) best = { entry, rank };
  }
  if (best !== undefined) return best.entry;
  const unspecified = entries.filter((entry) => entry.platform === undefined);
  if (unspecified.length === 1 && unspecified[0] !== undefined) return unspecified[0];
  const platforms = entries.map(({ platform }) => platform).filter((platform) => platform !== undefined && platform.os !== 'unknown');
  const offered = platforms.map((platform) => (platform === undefined ? '' : describePlatform(platform)));
  throw new Fault('not-found', `${what}: no image for ${describePlatform(host)}; it has ${offered.length === 0 ? 'none' : [...new Set(offered)].join(', ')}`);
}

/** Throws Fault invalid. `layerCount` is how many layers the manifest has. */
export function parseImageConfig(data: Uint8Array, layerCount: number, what: string): ImageConfig {
  if (data.length > maxConfigBytes) throw broken(what, `is larger than ${maxConfigBytes} bytes`);
  const document = parseJson(data, what);
  const { rootfs } = document;
  const diffIds = isFields(rootfs) ? stringList(rootfs['diff_ids'], `${what}: rootfs.diff_ids`) : [];
  if (diffIds.length !== layerCount) throw broken(what, `has ${diffIds.length} diff ids for ${layerCount} layers`);
  for (const [index, diffId] of diffIds.entries()) if (!isDigest(diffId)) parseOr(`${what}: rootfs.diff_ids[${index}]`, diffId);
  const config = isFields(document['config']) ? document['config'] : {};
  return {
    diffIds: diffIds as Digest[],
    run: {
      user: text(config['User'], `${what}: config.User`),
      env: stringList(config['Env'], `${what}: config.Env`),
      entrypoint: stringList(config['Entrypoint'], `${what}: config.Entrypoint`),
      cmd: stringList(config['Cmd'], `${what}: config.Cmd`),
      workingDir: text(config['WorkingDir'], `${what}: config.WorkingDir`),
      volumes: keysOf(config['Volumes']),
      stopSignal: text(config['StopSignal'], `${what}: config.StopSignal`),
      labels: stringMap(config['Labels'], `${what}: config.Labels`),
      exposedPorts: keysOf(config['ExposedPorts']),
      os: text(document['os'], `${what}: os`),
      architecture: text(document['architecture'], `${what}: architecture`),
    },
  };
}
