/** One container from nothing to running: image → configuration → create → start → postStart, with the kubelet's events. */
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Mount, PodSandboxConfig } from '#cri-api';
import { writeFileAtomic } from '#host/atomic-file.ts';
import { detached, type Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { explain, isFault } from '#host/fault.ts';
import { oomScoreAdjust } from '../cgroup/oom-score.ts';
import { containerConfig, logPath } from '../container-config/container.ts';
import { environment, envReferences } from '../container-config/env.ts';
import { hostsFile, hostNetworkHostsFile } from '../container-config/hosts-file.ts';
import { podHostname } from '../container-config/hostname.ts';
import { hostMount, volumeMounts, type VolumePlace } from '../container-config/mounts.ts';
import { newestContainer, type ObservedPod } from '../cri/observed.ts';
import { CriError } from '../cri/call.ts';
import type { PresentImage } from '../image/ensure.ts';
import { StartError } from '../image/start-error.ts';
import { podKey, podName, podNamespace, podUid, usesHostNetwork } from '../kube/pod-facts.ts';
import { containerReference } from '../kube/references.ts';
import type { ConfigMap, Container, Pod, Secret } from '../kube/types.ts';
import type { AgentPaths } from '../paths.ts';
import { runHook } from './hooks.ts';
import type { PodDeps } from './pod-deps.ts';

export interface StartRequest {
  readonly pod: Pod;
  readonly container: Container;
  readonly observed: ObservedPod;
  readonly sandbox: { readonly id: string; readonly config: PodSandboxConfig; readonly ips: readonly string[] };
  readonly volumes: ReadonlyMap<string, VolumePlace>;
  readonly pullSecrets: readonly Secret[];
}

/** Throws StartError with the waiting reason. A container that was made and could not be started stays, for its log. */
export async function startContainer(ctx: Ctx, deps: PodDeps, request: StartRequest): Promise<void> {
  const { pod, container, sandbox } = request;
  const about = containerReference(pod, container.name);
  const failed = (reason: StartError['reason'], cause: unknown): StartError => {
    const text = cause instanceof CriError ? cause.message : explain(cause);
    deps.events.event(about, 'Warning', 'Failed', `Error: ${text}`);
    return new StartError(reason, text, { cause });
  };
  // 1. The image.
  const image = await imageOf(ctx, deps, request);
  // 2. The configuration.
  const restartCount = await nextRestartCount(deps, request);
  let config;
  try {
    config = await configOf(ctx, deps, request, image, restartCount);
  } catch (cause) {
    if (isFault(cause, 'canceled')) throw cause;
    throw failed('CreateContainerConfigError', cause);
  }
  // 3. Make it.
  let id: string;
  try {
    id = await deps.runtime.createContainer(ctx, sandbox.id, config, sandbox.config);
  } catch (cause) {
    throw failed('CreateContainerError', cause);
  }
  deps.events.event(about, 'Normal', 'Created', 'Container created');
  // 4. Start it.
  try {
    await deps.runtime.startContainer(ctx, id);
  } catch (cause) {
    throw failed('RunContainerError', cause);
  }
  deps.events.event(about, 'Normal', 'Started', 'Container started');
  ctx.log.info({ pod: podKey(pod), uid: podUid(pod), container: container.name, id, restartCount }, 'container started');
  await linkLog(ctx, deps, request, id, restartCount);
  // 5. The next container waits for this one's hook.
  await postStart(ctx, deps, request, id);
}

async function imageOf(ctx: Ctx, deps: PodDeps, { pod, container, pullSecrets, sandbox }: StartRequest): Promise<PresentImage> {
  try {
    return await deps.images.ensure(ctx, pod, container, { secrets: pullSecrets, sandbox: sandbox.config });
  } catch (error) {
    if (error instanceof StartError) deps.events.event(containerReference(pod, container.name), 'Warning', 'Failed', `Error: ${error.reason}`);
    throw error;
  }
}

async function postStart(ctx: Ctx, deps: PodDeps, { pod, container, sandbox }: StartRequest, id: string): Promise<void> {
  const hook = container.lifecycle?.postStart;
  if (hook === undefined) return;
  try {
    await runHook(ctx, deps.runtime, hook, { container, containerId: id, podIP: sandbox.ips[0] }, undefined);
  } catch (cause) {
    deps.events.event(containerReference(pod, container.name), 'Warning', 'FailedPostStartHook', 'PostStartHook failed');
    deps.events.event(containerReference(pod, container.name), 'Normal', 'Killing', 'FailedPostStartHook');
    await deps.runtime.stopContainer(detached(ctx), id, pod.spec?.terminationGracePeriodSeconds ?? 30);
    throw new StartError('PostStartHookError', `PostStartHook failed: ${explain(cause)}`, { cause });
  }
}

/** One more than the last; when the runtime has forgotten, one more than the highest number among the logs. */
async function nextRestartCount(deps: PodDeps, { pod, container, observed }: StartRequest): Promise<number> {
  const newest = newestContainer(observed, container.name);
  if (newest !== undefined) return newest.notes.restartCount + 1;
  const dir = join(deps.paths.podLogsDir({ namespace: podNamespace(pod), name: podName(pod), uid: podUid(pod) }), container.name);
  try {
    const numbers = (await readdir(dir)).flatMap((name) => /^(\d+)\.log/.exec(name)?.[1] ?? []).map(Number);
    return numbers.length === 0 ? 0 : Math.max(...numbers) + 1;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return 0;
    throw error;
  }
}

async function configOf(ctx: Ctx, deps: PodDeps, request: StartRequest, image: PresentImage, restartCount: number): Promise<ReturnType<typeof containerConfig>> {
  const { pod, container, observed, sandbox } = request;
  const facts = deps.node();
  const wanted = envReferences(container);
  const namespace = podNamespace(pod);
  const env = environment(pod, container, {
    configMaps: await fetched<ConfigMap>(wanted.configMaps, (name) => deps.objects.configMap(ctx, namespace, name)),
    secrets: await fetched<Secret>(wanted.secrets, (name) => deps.objects.secret(ctx, namespace, name)),
    place: { hostIPs: facts.hostIPs, allocatable: facts.allocatable, podIPs: usesHostNetwork(pod) ? facts.hostIPs : sandbox.ips },
    services: deps.serviceVariables(pod),
  });
  const target = 'targetContainerName' in container && typeof container.targetContainerName === 'string' ? newestContainer(observed, container.targetContainerName) : undefined;
  await mkdir(join(sandbox.config.logDirectory, container.name), { recursive: true, mode: 0o755 });
  return containerConfig(pod, container, {
    restartCount,
    image,
    env,
    mounts: await mountsOf(ctx, deps, request, env),
    security: facts.security,
    resources: { ...facts.resources, oomScoreAdj: oomScoreAdjust(pod, container, facts.memoryBytes) },
    ...(target !== undefined && { targetId: target.id }),
  });
}

async function fetched<T>(names: ReadonlySet<string>, get: (name: string) => Promise<T | undefined>): Promise<Map<string, T>> {
  const found = await Promise.all([...names].map(async (name) => [name, await get(name)] as const));
  return new Map(found.flatMap(([name, object]) => (object === undefined ? [] : [[name, object] as const])));
}

async function mountsOf(ctx: Ctx, deps: PodDeps, request: StartRequest, env: ReadonlyMap<string, string>): Promise<Mount[]> {
  const { pod, container, volumes } = request;
  const mounts: Mount[] = [];
  for (const { mount, subPath } of volumeMounts(container, volumes, env)) {
    if (subPath === undefined) mounts.push(mount);
    else mounts.push({ ...mount, hostPath: await deps.volumes.subPath(ctx, podUid(pod), { ...subPath, container: container.name }) });
  }
  const taken = new Set(mounts.map(({ containerPath }) => containerPath));
  if (!taken.has('/etc/hosts')) mounts.push(await hostsMount(deps, request));
  const messagePath = container.terminationMessagePath ?? '';
  if (messagePath !== '' && !taken.has(messagePath)) mounts.push(await messageMount(deps, pod, container, messagePath));
  return mounts;
}

/** The same file for all containers of the pod, written anew at each start. */
async function hostsMount(deps: PodDeps, { pod, sandbox, container }: StartRequest): Promise<Mount> {
  const path = deps.paths.etcHosts(podUid(pod));
  const text = usesHostNetwork(pod)
    ? hostNetworkHostsFile(pod, await readFile('/etc/hosts', 'utf8'))
    : hostsFile(pod, sandbox.ips, podHostname(pod, deps.node().dns.clusterDomain));
  await writeFileAtomic(path, text, { mode: 0o644 });
  await chmod(path, 0o644); // whatever the umask
  return hostMount({ containerPath: '/etc/hosts', hostPath: path, readonly: container.securityContext?.readOnlyRootFilesystem === true });
}

/** A file of its own for every instance, so that no message of an earlier one is read as this one's. */
async function messageMount(deps: PodDeps, pod: Pod, container: Container, containerPath: string): Promise<Mount> {
  const dir = deps.paths.podContainerDir(podUid(pod), container.name);
  await mkdir(dir, { recursive: true, mode: 0o750 });
  const path = join(dir, randomBytes(4).toString('hex'));
  await writeFile(path, '');
  await chmod(path, 0o666); // any user in the container may write it
  return hostMount({ containerPath, hostPath: path });
}

/** `/var/log/containers/<pod>_<ns>_<container>-<id>.log`: where log shippers look. */
export const logLink = (paths: AgentPaths, pod: Pod, container: { name: string; id: string }): string =>
  join(paths.containerLogsDir, `${podName(pod)}_${podNamespace(pod)}_${container.name}-${container.id}.log`);

/** A failure costs nothing else. */
async function linkLog(ctx: Ctx, deps: PodDeps, { pod, container, sandbox }: StartRequest, id: string, restartCount: number): Promise<void> {
  const link = logLink(deps.paths, pod, { name: container.name, id });
  try {
    await mkdir(deps.paths.containerLogsDir, { recursive: true, mode: 0o755 });
    await unlink(link).catch(() => undefined); // usually there is none
    await symlink(join(sandbox.config.logDirectory, logPath(container, restartCount)), link);
  } catch (error) {
    ctx.log.warn({ link, why: explain(error) }, 'no link to the container log');
  }
}
