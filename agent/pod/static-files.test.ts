/** Manifests of a node: what is taken, what is refused and how that is said, what happens when files change. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { quietCtx } from '#host/log.ts';
import type { Pod } from '../kube/types.ts';
import { parseManifests, StaticFiles } from './static-files.ts';

const good = `apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: x}}
spec:
  hostNetwork: true
  containers:
  - {name: c, image: demo, ports: [{containerPort: 80}], resources: {limits: {cpu: 1, memory: 64Mi}}}
`;

const refused: [name: string, text: string, message: string][] = [
  ['no YAML', 'a: [', 'f.yaml: not YAML: '],
  ['no object', '- 1', 'f.yaml: must be a Kubernetes object (apiVersion, kind, metadata, …)'],
  ['no kind', 'apiVersion: v1', 'f.yaml: kind: is missing'],
  ['another kind', 'apiVersion: apps/v1\nkind: Deployment', 'f.yaml: kind: must be one of Pod, ConfigMap, Secret, not "Deployment"'],
  ['another version', 'apiVersion: v2\nkind: Pod', 'f.yaml: apiVersion: must be v1 for a Pod, not "v2"'],
  ['a misspelt field', good.replace('image:', 'imge:'), 'f.yaml: spec.containers[0].imge: unknown field'],
  ['a field of the wrong type', good.replace('containerPort: 80', 'containerPort: eighty'), 'f.yaml: spec.containers[0].ports[0].containerPort: must be a number'],
  ['a number for a string', good.replace('{app: x}', '{app: 1}'), 'f.yaml: metadata.labels.app: must be a string; put 1 in quotes'],
  ['no quantity', good.replace('64Mi', '64Megs'), 'f.yaml: spec.containers[0].resources.limits.memory: "64Megs" is no quantity'],
  ['no name', good.replace('name: web, ', ''), 'f.yaml: metadata.name: is missing'],
  ['a bad name', good.replace('name: web', 'name: Web'), `f.yaml: metadata.name: "Web" is no name (lower case letters, digits, '-' and '.')`],
  ['no containers', good.replace(/ {2}containers:[^]*/, '  containers: []'), 'f.yaml: spec.containers: at least one container is needed'],
  ['no image', good.replace('image: demo, ', ''), 'f.yaml: spec.containers[0].image: is missing'],
  ['a bad image', good.replace('image: demo', 'image: "demo:"'), `f.yaml: spec.containers[0].image: couldn't parse image name "demo:": invalid reference format`],
  ['a name twice', `${good}  - {name: c, image: demo}\n`, 'f.yaml: spec.containers[1].name: "c" is used twice'],
  ['no such volume', good.replace('image: demo', 'image: demo, volumeMounts: [{name: v, mountPath: /v}]'), 'f.yaml: spec.containers[0].volumeMounts[0].name: there is no volume "v" in spec.volumes'],
  ['an unknown policy', good.replace('hostNetwork: true', 'restartPolicy: Sometimes'), 'f.yaml: spec.restartPolicy: must be one of Always, OnFailure, Never, not "Sometimes"'],
  ['the second document', `${good}---\nkind: 1\n`, 'f.yaml: document 2: kind: is missing'],
];
for (const [name, text, message] of refused) {
  test(`refused with file and field: ${name}`, async () => {
    await assert.rejects(parseManifests('f.yaml', text, 'node'), (error: Error) => {
      assert.equal(error.message.slice(0, message.length), message);
      return true;
    });
  });
}

const only = async (text: string, file = 'f.yaml'): Promise<Pod> => {
  const [pod] = (await parseManifests(file, text, 'Node1')).pods;
  assert.ok(pod !== undefined);
  return pod;
};

test('a pod gets the node’s name, an identity and the API’s defaults', async () => {
  const { metadata, spec } = await only(good);
  assert.deepEqual([metadata?.name, metadata?.namespace, spec?.nodeName], ['web-node1', 'default', 'Node1']);
  assert.equal(metadata?.annotations?.['kubernetes.io/config.source'], 'file');
  assert.match(metadata?.uid ?? '', /^[0-9a-f]{32}$/);
  const [c] = spec?.containers ?? [];
  assert.deepEqual([spec?.restartPolicy, spec?.dnsPolicy, spec?.terminationGracePeriodSeconds, c?.imagePullPolicy, c?.terminationMessagePath], ['Always', 'ClusterFirst', 30, 'Always', '/dev/termination-log']);
  assert.deepEqual(c?.ports, [{ protocol: 'TCP', containerPort: 80, hostPort: 80 }]);
  assert.deepEqual(c?.resources?.requests, { cpu: 1, memory: '64Mi' });
});

test('the same file gives the same pod, a change or another place gives another', async () => {
  const uid = (await only(good)).metadata?.uid;
  assert.equal((await only(good)).metadata?.uid, uid);
  assert.notEqual((await only(good.replace('demo', 'demo:2'))).metadata?.uid, uid);
  assert.notEqual((await only(good, 'g.yaml')).metadata?.uid, uid);
});

test('several documents, lists and JSON', async () => {
  const yaml = await parseManifests('f', `${good}---\n---\napiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: ConfigMap, metadata: {name: cm}}, {apiVersion: v1, kind: Secret, metadata: {name: s}}]`, 'n');
  assert.deepEqual([yaml.pods.length, yaml.configMaps.length, yaml.secrets.length], [1, 1, 1]);
  const json = await parseManifests('f.json', '{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"x"}]}}]}', 'n');
  assert.equal(json.pods[0]?.metadata?.name, 'a-n');
});

async function watched(t: TestContext): Promise<{ dir: string; files: StaticFiles; names: () => string[] }> {
  const dir = await mkdtemp(join(tmpdir(), 'static-'));
  t.after(() => rm(dir, { recursive: true }));
  let pods: Pod[] = [];
  const sink = { replace: (all: Pod[]) => void (pods = all), upsert: () => undefined, remove: () => undefined };
  const files = new StaticFiles({ path: dir, nodeName: 'n', sink, objectsChanged: () => undefined });
  return { dir, files, names: () => pods.map((pod) => `${pod.metadata?.name} ${pod.spec?.containers[0]?.image}`) };
}

test('a file that breaks keeps what it said before, the others work on, and it goes with the file', async (t) => {
  const { dir, files, names } = await watched(t);
  await writeFile(join(dir, 'a.yaml'), good);
  await writeFile(join(dir, 'b.yaml'), good.replace('name: web', 'name: other'));
  await files.reload(quietCtx());
  assert.deepEqual(names(), ['web-n demo', 'other-n demo']);
  await writeFile(join(dir, 'a.yaml'), 'kind: [');
  await writeFile(join(dir, 'b.yaml'), good.replace('name: web', 'name: other').replace('demo', 'demo:2'));
  await files.reload(quietCtx());
  assert.deepEqual(names(), ['web-n demo', 'other-n demo:2']);
  await rm(join(dir, 'a.yaml'));
  await files.reload(quietCtx());
  assert.deepEqual(names(), ['other-n demo:2']);
});

test('two files with one pod name: the first has it; hidden files and directories are not looked at', async (t) => {
  const { dir, files, names } = await watched(t);
  await writeFile(join(dir, 'a.yaml'), good);
  await writeFile(join(dir, 'b.yaml'), good.replace('demo', 'demo:2'));
  await writeFile(join(dir, '.c.yaml.swp'), 'binary');
  await files.reload(quietCtx());
  assert.deepEqual(names(), ['web-n demo']);
});

test('ConfigMaps and Secrets of the directory are found by namespace and name', async (t) => {
  const { dir, files } = await watched(t);
  await writeFile(join(dir, 'a.yaml'), 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm, namespace: x}\ndata: {a: b}\n');
  await files.reload(quietCtx());
  assert.deepEqual((await files.configMap(quietCtx(), 'x', 'cm'))?.data, { a: 'b' });
  assert.equal(await files.configMap(quietCtx(), 'default', 'cm'), undefined);
});
