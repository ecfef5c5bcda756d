/**
 * Pods in files of this node (the kubelet's staticPodPath), and unlike there also the ConfigMaps and Secrets they use.
 * YAML or JSON, several documents in a file. A file that cannot be used is named with the field that is wrong; what it defined
 * before stays as it was until the file is right again or gone, and all other files work on.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { explain, Fault } from '#host/fault.ts';
import { watchDirectory } from '#host/watch-dir.ts';
import type { ObjectSource } from '../kube/object-cache.ts';
import { podKey } from '../kube/pod-facts.ts';
import type { ConfigMap, Pod, Secret } from '../kube/types.ts';
import type { PodSink } from './sources.ts';
import { podProblem, staticPod } from './static-pod.ts';

/** The kubelet's limit for one source. */
const maxFileBytes = 10 * 1024 * 1024;

export interface FileContent {
  readonly pods: readonly Pod[];
  readonly configMaps: readonly ConfigMap[];
  readonly secrets: readonly Secret[];
}

const nothing: FileContent = { pods: [], configMaps: [], secrets: [] };
const types: Readonly<Record<string, string>> = { Pod: 'V1Pod', ConfigMap: 'V1ConfigMap', Secret: 'V1Secret' };

const isMap = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Throws Fault('invalid', 'FILE: FIELD: what is wrong'); the document is named when there are several. */
export async function parseManifests(file: string, text: string, nodeName: string): Promise<FileContent> {
  const { schemaProblem } = await import('../kube/manifest-schema.ts'); // loads all types; only nodes with static pods need them
  const documents = parseAllDocuments(text);
  const content = { pods: [] as Pod[], configMaps: [] as ConfigMap[], secrets: [] as Secret[] };
  const several = Array.isArray(documents) && documents.length > 1;
  for (const [index, document] of (Array.isArray(documents) ? documents : []).entries()) {
    const refuse = (what: string): Fault => new Fault('invalid', `${file}: ${several ? `document ${index + 1}: ` : ''}${what}`);
    const [error] = document.errors;
    if (error !== undefined) throw refuse(`not YAML: ${error.message.split('\n')[0] ?? ''}`);
    for (const object of itemsOf(document.toJS(), refuse)) addObject(content, object, { file, nodeName, refuse, schemaProblem });
  }
  return content;
}

/** An empty document is nothing, a List its items. */
function itemsOf(value: unknown, refuse: (what: string) => Fault): Record<string, unknown>[] {
  if (value === null || value === undefined) return [];
  if (!isMap(value)) throw refuse('must be a Kubernetes object (apiVersion, kind, metadata, …)');
  if (typeof value['kind'] !== 'string') throw refuse('kind: is missing');
  if (!value['kind'].endsWith('List')) return [value];
  const items = Array.isArray(value['items']) ? value['items'] : [];
  return items.map((item: unknown, index) => {
    if (!isMap(item)) throw refuse(`items[${index}]: must be a Kubernetes object`);
    return { apiVersion: 'v1', kind: value['kind'] === 'List' ? undefined : String(value['kind']).slice(0, -4), ...item };
  });
}

interface Adding {
  readonly file: string;
  readonly nodeName: string;
  readonly refuse: (what: string) => Fault;
  readonly schemaProblem: (value: unknown, type: string) => string | undefined;
}

function addObject(content: { pods: Pod[]; configMaps: ConfigMap[]; secrets: Secret[] }, object: Record<string, unknown>, { file, nodeName, refuse, schemaProblem }: Adding): void {
  const { kind, apiVersion } = object;
  const type = typeof kind === 'string' ? types[kind] : undefined;
  if (type === undefined) throw refuse(`kind: must be one of ${Object.keys(types).join(', ')}, not ${JSON.stringify(kind)}`);
  if (apiVersion !== 'v1') throw refuse(`apiVersion: must be v1 for a ${String(kind)}, not ${JSON.stringify(apiVersion)}`);
  const problem = schemaProblem(object, type);
  if (problem !== undefined) throw refuse(problem);
  if (kind === 'Pod') {
    const pod = object as Pod; // its shape was checked just now
    const wrong = podProblem(pod);
    if (wrong !== undefined) throw refuse(wrong);
    content.pods.push(staticPod(pod, { file, nodeName }));
    return;
  }
  const map = object as ConfigMap & Secret; // as above; both are names and data
  if (map.metadata?.name === undefined) throw refuse('metadata.name: is missing');
  if (kind === 'ConfigMap') content.configMaps.push(map);
  else content.secrets.push(map);
}

export interface StaticFilesOptions {
  /** A directory, or one file. It may be absent and come later. */
  readonly path: string;
  readonly nodeName: string;
  readonly sink: PodSink;
  /** A ConfigMap or Secret came, changed or went. */
  readonly objectsChanged: () => void;
}

export class StaticFiles implements ObjectSource {
  readonly #options: StaticFilesOptions;
  /** The last good content of every file. */
  #files = new Map<string, FileContent>();
  readonly #complaints = new Map<string, string>();
  #objects = '';

  constructor(options: StaticFilesOptions) {
    this.#options = options;
  }

  /** Reads all, then keeps watching until the context ends. */
  async start(ctx: Ctx): Promise<void> {
    await this.reload(ctx);
    const isFile = await stat(this.#options.path).then((found) => found.isFile(), () => false);
    let reading = Promise.resolve();
    watchDirectory(ctx, isFile ? dirname(this.#options.path) : this.#options.path, () => {
      reading = reading.then(() => this.reload(ctx)).catch((error: unknown) => ctx.log.error({ err: error }, 'static pods not read'));
    });
  }

  async reload(ctx: Ctx): Promise<void> {
    const found = new Map<string, FileContent>();
    for (const file of await this.#list(ctx)) {
      found.set(file, await this.#read(ctx, file));
    }
    for (const file of this.#complaints.keys()) if (!found.has(file) && file !== this.#options.path) this.#complaints.delete(file);
    this.#files = found;
    const objects = JSON.stringify([...found.values()].map(({ configMaps, secrets }) => [configMaps, secrets]));
    this.#options.sink.replace(this.#uniquePods(ctx));
    if (objects !== this.#objects) this.#options.objectsChanged();
    this.#objects = objects;
  }

  configMap(_ctx: Ctx, namespace: string, name: string): Promise<ConfigMap | undefined> {
    return Promise.resolve(this.#find('configMaps', namespace, name));
  }

  secret(_ctx: Ctx, namespace: string, name: string): Promise<Secret | undefined> {
    return Promise.resolve(this.#find('secrets', namespace, name));
  }

  #find<Kind extends 'configMaps' | 'secrets'>(kind: Kind, namespace: string, name: string): FileContent[Kind][number] | undefined {
    for (const content of this.#files.values()) {
      const objects: readonly FileContent[Kind][number][] = content[kind];
      const found = objects.find(({ metadata }) => metadata?.name === name && (metadata.namespace ?? 'default') === namespace);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  async #list(ctx: Ctx): Promise<string[]> {
    const { path } = this.#options;
    try {
      if ((await stat(path)).isFile()) return [path];
      const names = await readdir(path, { withFileTypes: true });
      this.#complain(ctx, path, undefined);
      return names.filter((entry) => !entry.isDirectory() && !entry.name.startsWith('.')).map(({ name }) => join(path, name)).toSorted();
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) this.#complain(ctx, path, explain(error));
      return [];
    }
  }

  async #read(ctx: Ctx, file: string): Promise<FileContent> {
    try {
      if ((await stat(file)).size > maxFileBytes) throw new Fault('invalid', `${file}: larger than ${maxFileBytes / 1024 / 1024} MiB`);
      const content = await parseManifests(file, await readFile(file, 'utf8'), this.#options.nodeName);
      this.#complain(ctx, file, undefined);
      return content;
    } catch (error) {
      this.#complain(ctx, file, explain(error));
      return this.#files.get(file) ?? nothing;
    }
  }

  /** Once for each new problem, not at every rescan. */
  #complain(ctx: Ctx, file: string, problem: string | undefined): void {
    if (problem === undefined) {
      if (this.#complaints.delete(file)) ctx.log.info({ file }, 'manifest is in order again');
      return;
    }
    if (this.#complaints.get(file) !== problem) ctx.log.error({ file, why: problem }, 'manifest not used');
    this.#complaints.set(file, problem);
  }

  /** Two pods cannot share a name: the first file in the order of names has it. */
  #uniquePods(ctx: Ctx): Pod[] {
    const taken = new Map<string, string>();
    const pods: Pod[] = [];
    for (const [file, content] of this.#files) {
      for (const pod of content.pods) {
        const other = taken.get(podKey(pod));
        if (other === undefined) pods.push(pod);
        else this.#complain(ctx, `${file}#${podKey(pod)}`, `${file}: metadata.name: the pod ${podKey(pod)} is defined in ${basename(other)} already`);
        taken.set(podKey(pod), other ?? file);
      }
    }
    return pods;
  }
}
