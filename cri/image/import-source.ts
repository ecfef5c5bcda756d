/**
 * What is in an OCI layout (OCI image-spec 1.1, image-layout.md) or a docker archive (`docker save`), as a directory: images with their names and files.
 * All files are looked for as seen from inside the directory: links cannot lead out of it.
 */
import { readFile, stat } from 'node:fs/promises';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { resolveInRoot } from '#host/safe-path.ts';
import { algorithmOf, digestOf, hexOf, verifyDigest, type Digest } from './digest.ts';
import { chooseManifest, maxConfigBytes, maxManifestBytes, parseImageConfig, parseManifest, type Descriptor, type ImageConfig } from './manifest.ts';
import { hostPlatform } from './platform.ts';
import { formatReference, parseReference, repositoryOf } from './reference.ts';

export interface SourceImage {
  readonly tags: readonly string[];
  readonly digests: readonly string[];
  readonly id: Digest;
  readonly config: ImageConfig;
  /** Files with the layers' tars, bottom first; a digest that is known of the file itself. */
  readonly layers: readonly { readonly file: string; readonly digest: Digest | undefined }[];
  /** Small blobs to keep. */
  readonly blobs: readonly { readonly digest: Digest; readonly data: Uint8Array }[];
}

const nameAnnotation = 'io.containerd.image.name';
const refAnnotation = 'org.opencontainers.image.ref.name';

class SourceDirectory {
  readonly path: string;
  constructor(path: string) {
    this.path = path;
  }
  /** The real path of a file in it. */
  async file(name: string): Promise<string> {
    try {
      return await resolveInRoot(this.path, name);
    } catch (cause) {
      if (isErrno(cause, 'ENOENT', 'ENOTDIR', 'ELOOP')) throw new Fault('invalid', `${name} is missing`, cause);
      throw cause;
    }
  }
  /** A small file whole, undefined when it is not there. */
  async read(name: string, limitBytes = maxConfigBytes): Promise<Buffer | undefined> {
    try {
      const file = await resolveInRoot(this.path, name);
      const stats = await stat(file);
      if (!stats.isFile() || stats.size > limitBytes) throw new Fault('invalid', `${name} is no file of at most ${limitBytes} bytes`);
      return await readFile(file);
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
      throw error;
    }
  }
  blobName(digest: Digest): string {
    return `blobs/${algorithmOf(digest)}/${hexOf(digest)}`;
  }
  async blob(digest: Digest, limitBytes: number): Promise<Buffer> {
    const data = await this.read(this.blobName(digest), limitBytes);
    if (data === undefined) throw new Fault('invalid', `${this.blobName(digest)} is missing`);
    verifyDigest(data, digest, this.blobName(digest));
    return data;
  }
}

/** Throws Fault invalid when it is neither, or an image in it has no name and `name` is not given. */
export async function readImageDirectory(path: string, name: string | undefined): Promise<SourceImage[]> {
  const source = new SourceDirectory(path);
  const index = await source.read('index.json');
  if (index !== undefined) return readLayout(source, index, name);
  const manifests = await source.read('manifest.json');
  if (manifests !== undefined) return readDockerArchive(source, manifests, name);
  throw new Fault('invalid', 'neither an OCI layout (no index.json) nor a docker archive (no manifest.json)');
}

async function readLayout(source: SourceDirectory, index: Buffer, name: string | undefined): Promise<SourceImage[]> {
  const parsed = parseManifest(index, '', 'index.json');
  if (parsed.kind !== 'index') throw new Fault('invalid', 'index.json is not an index');
  if (parsed.entries.length === 0) throw new Fault('invalid', 'index.json lists no images');
  if (name !== undefined && new Set(parsed.entries.map(({ digest }) => digest)).size > 1 && parsed.entries.every(({ platform }) => platform === undefined)) {
    throw new Fault('invalid', `it holds ${parsed.entries.length} images; one name cannot be for all of them`);
  }
  // Several names of one image are several entries; entries with platforms and without names are one image.
  const images = new Map<Digest, { entry: Descriptor; names: string[] }>();
  const isOneImage = parsed.entries.every((entry) => entry.platform !== undefined && namesOf(entry) === undefined);
  const entries = isOneImage ? [chooseManifest(parsed.entries, hostPlatform(), 'index.json')] : parsed.entries;
  for (const entry of entries) {
    const own = name ?? namesOf(entry);
    if (own === undefined) {
      const missing = `no annotation ${nameAnnotation} or ${refAnnotation} with a full name`;
      throw new Fault('invalid', `the image ${entry.digest} has no name (${missing}); give one with --name`);
    }
    const image = images.get(entry.digest) ?? { entry, names: [] };
    image.names.push(own);
    images.set(entry.digest, image);
  }
  return Promise.all([...images.values()].map(({ entry, names }) => readLayoutImage(source, entry, names)));
}

/** A bare tag (`latest`), which the specification asks for, names no image. */
function namesOf(entry: Descriptor): string | undefined {
  const full = entry.annotations[nameAnnotation];
  if (full !== undefined && full !== '') return full;
  const ref = entry.annotations[refAnnotation];
  return ref !== undefined && /[/:]/.test(ref) ? ref : undefined;
}

async function readLayoutImage(source: SourceDirectory, entry: Descriptor, names: readonly string[]): Promise<SourceImage> {
  const references = names.map((name) => parseReference(name));
  const blobs: { digest: Digest; data: Uint8Array }[] = [];
  let descriptor = entry;
  for (let depth = 0; depth < 4; depth++) {
    const data = await source.blob(descriptor.digest, maxManifestBytes);
    const parsed = parseManifest(data, descriptor.mediaType, `manifest ${descriptor.digest}`);
    blobs.push({ digest: descriptor.digest, data });
    if (parsed.kind === 'index') {
      descriptor = chooseManifest(parsed.entries, hostPlatform(), `index ${descriptor.digest}`);
      continue;
    }
    const { config, layers } = parsed.manifest;
    const configData = await source.blob(config.digest, maxConfigBytes);
    blobs.push({ digest: config.digest, data: configData });
    return {
      tags: references.filter(({ tag }) => tag !== undefined).map(formatReference),
      digests: [...new Set(references.map((reference) => `${repositoryOf(reference)}@${entry.digest}`))],
      id: config.digest,
      config: parseImageConfig(configData, layers.length, `configuration ${config.digest}`),
      layers: await Promise.all(layers.map(async ({ digest }) => ({ file: await source.file(source.blobName(digest)), digest }))),
      blobs,
    };
  }
  throw new Fault('invalid', `index ${entry.digest}: indexes are nested too deeply`);
}

interface ArchiveEntry {
  readonly Config: string;
  readonly RepoTags: readonly string[] | null | undefined;
  readonly Layers: readonly string[];
}
const isStrings = (value: unknown): value is string[] => Array.isArray(value) && value.every((item) => typeof item === 'string');
function isArchiveEntry(value: unknown): value is ArchiveEntry {
  if (typeof value !== 'object' || value === null) return false;
  const { Config, RepoTags, Layers } = value as Record<keyof ArchiveEntry, unknown>;
  return typeof Config === 'string' && isStrings(Layers) && (RepoTags === undefined || RepoTags === null || isStrings(RepoTags));
}

async function readDockerArchive(source: SourceDirectory, text: Buffer, name: string | undefined): Promise<SourceImage[]> {
  let entries: unknown;
  try {
    entries = JSON.parse(text.toString('utf8'));
  } catch (cause) {
    throw new Fault('invalid', 'manifest.json is not JSON', cause);
  }
  if (!Array.isArray(entries) || entries.length === 0 || !entries.every(isArchiveEntry)) {
    throw new Fault('invalid', 'manifest.json is not that of a docker archive');
  }
  if (name !== undefined && entries.length > 1) throw new Fault('invalid', `it holds ${entries.length} images; one name cannot be for all of them`);
  return Promise.all(
    entries.map(async (entry) => {
      const names = name === undefined ? (entry.RepoTags ?? []) : [name];
      if (names.length === 0) throw new Fault('invalid', `the image ${entry.Config} has no name (RepoTags is empty); give one with --name`);
      const config = await source.read(entry.Config);
      if (config === undefined) throw new Fault('invalid', `${entry.Config} is missing`);
      const id = digestOf(config);
      return {
        tags: names.map((tag) => formatReference(parseReference(tag))),
        digests: [],
        id,
        config: parseImageConfig(config, entry.Layers.length, entry.Config),
        layers: await Promise.all(entry.Layers.map(async (layer) => ({ file: await source.file(layer), digest: undefined }))),
        blobs: [{ digest: id, data: config }],
      };
    }),
  );
}
