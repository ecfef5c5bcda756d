/** configMap, secret, downwardAPI and projected: files made of what the API knows. */
import { chmod, mkdir } from 'node:fs/promises';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { podNamespace } from '../../kube/pod-facts.ts';
import type { ConfigMap, Pod, Secret, Volume } from '../../kube/types.ts';
import type { SetUp, VolumeDeps, VolumeMount, VolumeTask } from '../kind.ts';
import { applyFsGroup } from '../ownership.ts';
import { configMapPayload, defaultFileMode, downwardPayload, onlyUser, secretPayload } from '../payload.ts';
import type { Payload } from '../payload.ts';
import { writePayload } from '../payload-writer.ts';
import { mountMemory } from './empty-dir.ts';

export const setUpConfigMap: SetUp<NonNullable<Volume['configMap']>> = async (ctx, deps, task, source) => {
  const optional = source.optional === true;
  const configMap = await configMapOf(ctx, deps, task.pod, source.name ?? '', optional);
  return publish(ctx, task, configMapPayload(configMap, source.items, source.defaultMode ?? defaultFileMode, optional), 'disk');
};

export const setUpSecret: SetUp<NonNullable<Volume['secret']>> = async (ctx, deps, task, source) => {
  const optional = source.optional === true;
  const secret = await secretOf(ctx, deps, task.pod, source.secretName ?? '', optional);
  return publish(ctx, task, secretPayload(secret, source.items, source.defaultMode ?? defaultFileMode, optional), 'memory');
};

export const setUpDownwardApi: SetUp<NonNullable<Volume['downwardAPI']>> = async (ctx, deps, task, source) =>
  publish(ctx, task, downwardPayload(source.items, task.pod, deps.placeOf(task.pod), source.defaultMode ?? defaultFileMode), 'memory');

export const setUpProjected: SetUp<NonNullable<Volume['projected']>> = async (ctx, deps, task, { sources, defaultMode = defaultFileMode }) => {
  const payload: Payload = new Map();
  for (const source of sources ?? []) {
    for (const [path, file] of await projectedSource(ctx, deps, task.pod, source, defaultMode)) payload.set(path, file);
  }
  return publish(ctx, task, payload, 'memory');
};

type Projection = NonNullable<NonNullable<Volume['projected']>['sources']>[number];

async function projectedSource(ctx: Ctx, deps: VolumeDeps, pod: Pod, source: Projection, defaultMode: number): Promise<Payload> {
  const { configMap, secret, downwardAPI, serviceAccountToken } = source;
  if (configMap !== undefined) {
    const optional = configMap.optional === true;
    return configMapPayload(await configMapOf(ctx, deps, pod, configMap.name ?? '', optional), configMap.items, defaultMode, optional);
  }
  if (secret !== undefined) {
    const optional = secret.optional === true;
    return secretPayload(await secretOf(ctx, deps, pod, secret.name ?? '', optional), secret.items, defaultMode, optional);
  }
  if (downwardAPI !== undefined) return downwardPayload(downwardAPI.items, pod, deps.placeOf(pod), defaultMode);
  if (serviceAccountToken !== undefined) {
    if (deps.tokens === undefined) throw new Fault('precondition', 'service account tokens need an API server, and this node has none');
    const token = await deps.tokens.token(ctx, pod, serviceAccountToken.audience ?? '', serviceAccountToken.expirationSeconds ?? 3600);
    const user = onlyUser(pod);
    const isPrivate = user !== undefined || pod.spec?.securityContext?.fsGroup !== undefined;
    const file = { data: Buffer.from(token), mode: isPrivate ? 0o600 : defaultMode, ...(user !== undefined && { uid: user }) };
    return new Map([[serviceAccountToken.path, file]]);
  }
  throw new Fault('unimplemented', `projected source ${Object.keys(source)[0] ?? ''} is not supported`);
}

async function configMapOf(ctx: Ctx, deps: VolumeDeps, pod: Pod, name: string, optional: boolean): Promise<ConfigMap | undefined> {
  const found = await deps.objects.configMap(ctx, podNamespace(pod), name);
  if (found === undefined && !optional) throw new Fault('not-found', `configmap ${JSON.stringify(name)} not found`);
  return found;
}

async function secretOf(ctx: Ctx, deps: VolumeDeps, pod: Pod, name: string, optional: boolean): Promise<Secret | undefined> {
  const found = await deps.objects.secret(ctx, podNamespace(pod), name);
  if (found === undefined && !optional) throw new Fault('not-found', `secret ${JSON.stringify(name)} not found`);
  return found;
}

async function publish(ctx: Ctx, { pod, dir }: VolumeTask, payload: Payload, medium: 'disk' | 'memory'): Promise<VolumeMount> {
  await mkdir(dir, { recursive: true, mode: 0o777 });
  if (medium === 'memory') await mountMemory(dir, undefined);
  else await chmod(dir, 0o777); // whatever the umask
  const group = pod.spec?.securityContext?.fsGroup;
  await writePayload(dir, payload, group === undefined ? {} : { beforePublish: (directory) => applyFsGroup(ctx, directory, group, true) });
  return { hostPath: dir, readOnly: true };
}
