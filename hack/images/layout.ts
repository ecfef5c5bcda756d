/** Writes one OCI image layout whose index.json names every image by its full reference (annotation org.opencontainers.image.ref.name), and reads it back. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { Layer } from './layer.ts';

const mediaTypes = {
  oci: {
    index: 'application/vnd.oci.image.index.v1+json', manifest: 'application/vnd.oci.image.manifest.v1+json', config: 'application/vnd.oci.image.config.v1+json',
    tar: 'application/vnd.oci.image.layer.v1.tar', gzip: 'application/vnd.oci.image.layer.v1.tar+gzip', zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  },
  docker: {
    index: 'application/vnd.docker.distribution.manifest.list.v2+json', manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    config: 'application/vnd.docker.container.image.v1+json', gzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
    tar: 'application/vnd.docker.image.rootfs.diff.tar', zstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
  },
} as const;

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: { readonly architecture: string; readonly os: string };
}

/** The part of an image's configuration that its author writes. */
export interface ImageConfig {
  readonly Cmd?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Env?: readonly string[];
  readonly User?: string;
  readonly WorkingDir?: string;
  readonly StopSignal?: string;
  readonly ExposedPorts?: Readonly<Record<string, object>>;
  readonly Volumes?: Readonly<Record<string, object>>;
  readonly Labels?: Readonly<Record<string, string>>;
}

export interface ImageForm {
  readonly compression?: 'gzip' | 'zstd' | 'tar';
  readonly format?: 'oci' | 'docker';
  /** false: a single manifest; otherwise an index with another architecture's decoy in front. */
  readonly index?: boolean;
}

const created = '2024-01-01T00:00:00Z';
const defaultPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const referenceKey = 'org.opencontainers.image.ref.name';
const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
/** In an index this comes first, so that whoever takes the first entry takes the wrong one. */
const otherArchitecture = architecture === 'arm64' ? 'amd64' : 'arm64';

const digestOf = (data: Uint8Array): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

/** JSON with sorted keys: the digest depends on the content alone. */
const canonical = (value: unknown): string => JSON.stringify(value, (_key, item: unknown) =>
  typeof item === 'object' && item !== null && !Array.isArray(item) ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1))) : item);

export class Layout {
  readonly #dir: string;
  readonly #references: Descriptor[] = [];
  readonly #packed = new Map<string, Pick<Descriptor, 'digest' | 'size'>>();

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(path.join(dir, 'blobs/sha256'), { recursive: true });
  }

  /** Adds one image under one or more references; returns the digest that the references point to. */
  image(references: readonly string[], layers: readonly Buffer[], config: ImageConfig = {}, form: ImageForm = {}): string {
    const types = mediaTypes[form.format ?? 'oci'];
    const own = this.#manifest(layers, config, form, architecture);
    const top = form.index === false ? own : this.#json(types.index, {
      schemaVersion: 2, mediaType: types.index,
      manifests: [{ ...this.#decoy(config, form), platform: { architecture: otherArchitecture, os: 'linux' } }, { ...own, platform: { architecture, os: 'linux' } }],
    });
    for (const reference of references) this.#references.push({ ...top, annotations: { [referenceKey]: reference } });
    return top.digest;
  }

  get references(): readonly string[] { return this.#references.map(referenceOf); }

  finish(): void {
    writeFileSync(path.join(this.#dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    writeFileSync(path.join(this.#dir, 'index.json'), JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.oci.index, manifests: this.#references }, undefined, 1));
  }

  #decoy(config: ImageConfig, form: ImageForm): Descriptor {
    return this.#manifest([new Layer().file('wrong-architecture', 'this is not the layer for you\n').bytes()], config, form, otherArchitecture);
  }

  #manifest(layers: readonly Buffer[], config: ImageConfig, form: ImageForm, forArchitecture: string): Descriptor {
    const types = mediaTypes[form.format ?? 'oci'];
    const parts = layers.map((data) => this.#layer(data, form));
    const image = {
      architecture: forArchitecture, os: 'linux', created, config: { ...config, Env: [defaultPath, ...(config.Env ?? [])] },
      rootfs: { type: 'layers', diff_ids: parts.map((part) => part.diffId) }, history: parts.map(() => ({ created, created_by: 'hack/images' })),
    };
    return this.#json(types.manifest, {
      schemaVersion: 2, mediaType: types.manifest, config: this.#json(types.config, image), layers: parts.map((part) => part.descriptor),
    });
  }

  #layer(data: Buffer, { compression = 'gzip', format = 'oci' }: ImageForm): { descriptor: Descriptor; diffId: string } {
    const diffId = digestOf(data);
    const key = `${diffId} ${compression}`;
    const packed = this.#packed.get(key) ?? this.#blob(compression === 'gzip' ? gzipSync(data) : compression === 'zstd' ? zstdCompressSync(data) : data);
    this.#packed.set(key, packed);
    return { descriptor: { mediaType: mediaTypes[format][compression], ...packed }, diffId };
  }

  #json(mediaType: string, value: unknown): Descriptor {
    return { mediaType, ...this.#blob(Buffer.from(canonical(value))) };
  }

  #blob(data: Buffer): Pick<Descriptor, 'digest' | 'size'> {
    const digest = digestOf(data);
    const file = blobPath(this.#dir, digest);
    if (!existsSync(file)) {
      writeFileSync(`${file}.tmp`, data);
      renameSync(`${file}.tmp`, file);
    }
    return { digest, size: data.length };
  }
}

export const blobPath = (layout: string, digest: string): string => path.join(layout, 'blobs', ...digest.split(':'));

const referenceOf = (descriptor: Descriptor): string => {
  const reference = descriptor.annotations?.[referenceKey];
  if (reference === undefined) throw new Error(`${descriptor.digest} in index.json has no ${referenceKey}`);
  return reference;
};

export interface NamedImage { readonly reference: string; readonly host: string; readonly repository: string; readonly tag: string; readonly descriptor: Descriptor }

/** The images of a layout that `Layout` wrote. */
export function readLayout(dir: string): NamedImage[] {
  const index = JSON.parse(readFileSync(path.join(dir, 'index.json'), 'utf8')) as { manifests: Descriptor[] };
  return index.manifests.map((descriptor) => {
    const reference = referenceOf(descriptor);
    const slash = reference.indexOf('/');
    const colon = reference.lastIndexOf(':');
    return { reference, host: reference.slice(0, slash), repository: reference.slice(slash + 1, colon), tag: reference.slice(colon + 1), descriptor };
  });
}
