/** The volumes of pods: made before the containers, brought up to date at each pass, gone with the pod. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Ctx } from '#host/ctx.ts';
import { explain, Fault } from '#host/fault.ts';
import { removeTree } from '#host/remove-tree.ts';
import type { ObjectKind } from '../kube/object-cache.ts';
import { podNamespace, podUid } from '../kube/pod-facts.ts';
import type { Container, Pod, Volume } from '../kube/types.ts';
import type { VolumeDeps, VolumeMount, VolumeTask } from './kind.ts';
import { setUpEmptyDir } from './kinds/empty-dir.ts';
import { setUpHostPath } from './kinds/host-path.ts';
import { setUpConfigMap, setUpDownwardApi, setUpProjected, setUpSecret } from './kinds/object-files.ts';
import { prepareSubPath } from './sub-path.ts';

/** Some volumes could not be made. `failures[].message` is what the kubelet writes into its FailedMount events. */
export class MountFault extends Fault {
  readonly failures: readonly { readonly volume: string; readonly message: string }[];
  constructor(failures: readonly { readonly volume: string; readonly message: string }[], cause: unknown) {
    super('precondition', failures.map(({ message }) => message).join('; '), cause);
    this.name = 'MountFault';
    this.failures = failures;
  }
}

export interface VolumeManagerOptions extends VolumeDeps {
  /** The agent's directory of one pod: volumes/, volume-subpaths/ and plugins/ in it are ours. */
  readonly podDir: (uid: string) => string;
}

/** Calls for one pod must not overlap; pods do not disturb each other. */
export class VolumeManager {
  readonly #options: VolumeManagerOptions;
  readonly #users = new Map<string, Set<string>>();

  constructor(options: VolumeManagerOptions) {
    this.#options = options;
  }

  /**
   * Makes what is missing and refreshes what has changed, of all volumes that a container mounts. May run at every pass.
   * Throws MountFault when a volume cannot be made (the others are); the same call later tries again.
   */
  async mount(ctx: Ctx, pod: Pod): Promise<Map<string, VolumeMount>> {
    const mounted = new Map<string, VolumeMount>();
    const failures: { volume: string; message: string; cause: unknown }[] = [];
    this.#noteUsers(pod);
    const work = usedVolumes(pod).map(async (volume) => {
      try {
        mounted.set(volume.name, await this.#setUp(ctx, pod, volume));
      } catch (cause) {
        failures.push({ volume: volume.name, cause, message: `MountVolume.SetUp failed for volume ${JSON.stringify(volume.name)} : ${explain(cause)}` });
      }
    });
    await Promise.all(work);
    ctx.signal.throwIfAborted();
    if (failures.length > 0) throw new MountFault(failures, failures[0]?.cause);
    return mounted;
  }

  /** Unmounts and removes everything that `mount` and `subPath` made for the pod. May run twice, also for a pod that had nothing. */
  async unmount(_ctx: Ctx, uid: string): Promise<void> {
    const podDir = this.#options.podDir(uid);
    for (const part of ['volume-subpaths', 'volumes', 'plugins']) await removeTree(join(podDir, part));
    this.#options.tokens?.forgetPod(uid);
    for (const users of this.#users.values()) users.delete(uid);
  }

  /**
   * A path inside a volume as a place of its own that no link can lead elsewhere; made if absent. `index` is the volumeMount's.
   * Throws Fault('invalid') for one that leads out of the volume.
   */
  subPath(ctx: Ctx, uid: string, request: { volume: string; volumePath: string; container: string; index: number; path: string }): Promise<string> {
    const target = join(this.#options.podDir(uid), 'volume-subpaths', request.volume, request.container, String(request.index));
    return prepareSubPath(ctx, { volumePath: request.volumePath, path: request.path, target });
  }

  /** The pods whose volumes are made of this object: those to look at again when it changes. */
  usersOf(kind: ObjectKind, namespace: string, name: string): string[] {
    return [...(this.#users.get(`${kind}/${namespace}/${name}`) ?? [])];
  }

  #noteUsers(pod: Pod): void {
    for (const volume of usedVolumes(pod)) {
      for (const object of objectsOf(volume)) {
        const key = `${object.kind}/${podNamespace(pod)}/${object.name}`;
        const users = this.#users.get(key) ?? new Set();
        this.#users.set(key, users.add(podUid(pod)));
      }
    }
  }

  async #setUp(ctx: Ctx, pod: Pod, volume: Volume): Promise<VolumeMount> {
    const podDir = this.#options.podDir(podUid(pod));
    const task = async (kind: string): Promise<VolumeTask> => {
      const parent = join(podDir, 'volumes', `kubernetes.io~${kind}`);
      await mkdir(parent, { recursive: true, mode: 0o750 });
      return { pod, volumeName: volume.name, dir: join(parent, volume.name), readyFile: join(podDir, 'plugins', `kubernetes.io~${kind}`, volume.name, 'ready') };
    };
    const deps = this.#options;
    if (volume.emptyDir !== undefined) return setUpEmptyDir(ctx, deps, await task('empty-dir'), volume.emptyDir);
    if (volume.hostPath !== undefined) return setUpHostPath(ctx, deps, await task('host-path'), volume.hostPath);
    if (volume.configMap !== undefined) return setUpConfigMap(ctx, deps, await task('configmap'), volume.configMap);
    if (volume.secret !== undefined) return setUpSecret(ctx, deps, await task('secret'), volume.secret);
    if (volume.projected !== undefined) return setUpProjected(ctx, deps, await task('projected'), volume.projected);
    if (volume.downwardAPI !== undefined) return setUpDownwardApi(ctx, deps, await task('downward-api'), volume.downwardAPI);
    const kind = Object.keys(volume).find((key) => key !== 'name');
    if (kind === undefined) return setUpEmptyDir(ctx, deps, await task('empty-dir'), {}); // the API's default
    throw new Fault('unimplemented', `volumes of the kind ${kind} are not supported`);
  }
}

/** Those that a container mounts: the kubelet leaves the others alone, and does not fail for them. */
function usedVolumes(pod: Pod): Volume[] {
  const { containers = [], initContainers = [], ephemeralContainers = [], volumes = [] } = pod.spec ?? {};
  const all: Pick<Container, 'volumeMounts' | 'volumeDevices'>[] = [...initContainers, ...containers, ...ephemeralContainers];
  const used = new Set(all.flatMap((container) => [...(container.volumeMounts ?? []), ...(container.volumeDevices ?? [])].map(({ name }) => name)));
  return volumes.filter((volume) => used.has(volume.name));
}

function objectsOf(volume: Volume): { kind: ObjectKind; name: string }[] {
  const found: { kind: ObjectKind; name: string }[] = [];
  const add = (kind: ObjectKind, name: string | undefined): void => {
    if (name !== undefined) found.push({ kind, name });
  };
  add('ConfigMap', volume.configMap?.name);
  add('Secret', volume.secret?.secretName);
  for (const source of volume.projected?.sources ?? []) {
    add('ConfigMap', source.configMap?.name);
    add('Secret', source.secret?.name);
  }
  return found;
}
