/** The crictl walk: what a person types at the prompt, against our server or (E2E_CRI=containerd) the reference. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { criNeeds } from '../harness/cri-server.ts';
import { containerConfig, podConfig, withCri } from '../harness/crictl-walk.ts';
import { eventually } from '../harness/eventually.ts';
import { busyboxImage, tagImage } from '../harness/registry.ts';
import type { Crictl } from '../harness/shell.ts';
import { needs } from '../harness/tools.ts';

interface ContainerStatus { status: { state: string; exitCode: number; reason: string; metadata: { name: string }; image: { image: string; userSpecifiedImage: string }; annotations: Record<string, string>; logPath: string } }
interface PodStatus { status: { state: string; network: { ip: string }; metadata: { name: string; uid: string } }; info: object }
interface ImageList { images: { id: string; repoTags: string[]; repoDigests: string[]; size: string }[] }

const state = async (crictl: Crictl, id: string): Promise<string> => (await crictl.json<ContainerStatus>(['inspect', id])).status.state;

test('version, info and runtime-config describe the runtime', needs(...criNeeds()), () => withCri(async (crictl, cri) => {
  const version = await crictl.run(['version']);
  assert.match(version, new RegExp(`RuntimeName: +${cri.name}`));
  assert.match(version, /RuntimeApiVersion: +v1\b/);
  const info = await crictl.json<{ status: { conditions: { type: string; status: boolean; reason: string; message: string }[] } }>(['info']);
  assert.deepEqual(info.status.conditions.filter((each) => ['RuntimeReady', 'NetworkReady'].includes(each.type) && !each.status), []);
  assert.match(await crictl.run(['runtime-config']), /CGROUPFS/i);
}));

test('an image is pulled, listed, inspected and removed by tag, digest and id', needs(...criNeeds()), () => withCri(async (crictl) => {
  await crictl.run(['pull', busyboxImage]);
  await crictl.run(['pull', tagImage]);
  const { images } = await crictl.json<ImageList>(['images']);
  const pulled = images.find((each) => each.repoTags.includes(busyboxImage));
  assert.ok(pulled !== undefined, 'images lists what was pulled');
  assert.match(pulled.id, /^sha256:[0-9a-f]{64}$/);
  assert.match(pulled.repoDigests[0] ?? '', /^registry\.k8s\.io\/e2e-test-images\/busybox@sha256:[0-9a-f]{64}$/);
  assert.ok(Number(pulled.size) > 100_000, `size ${pulled.size}`);
  const inspected = await crictl.json<{ status: { id: string; repoTags: string[] } }>(['inspecti', busyboxImage]);
  assert.equal(inspected.status.id, pulled.id);
  assert.equal((await crictl.json<{ status: { id: string } }>(['inspecti', pulled.id.slice(7, 20)])).status.id, pulled.id, 'by the short id that tables show');
  await crictl.run(['rmi', pulled.repoDigests[0] ?? '']);
  assert.deepEqual((await crictl.json<ImageList>(['images'])).images.flatMap((each) => each.repoTags).filter((each) => each === busyboxImage), []);
  const byTag = (await crictl.json<ImageList>(['images'])).images.find((each) => each.repoTags.includes(tagImage));
  await crictl.run(['rmi', byTag?.id.slice(7, 20) ?? '']);
  const missing = await crictl.output(['inspecti', tagImage]);
  assert.notEqual(missing.exitCode, 0);
  assert.match(missing.stderr, /no such image/i);
}));

test('an image that does not exist is refused with its name', needs(...criNeeds()), () => withCri(async (crictl) => {
  const { exitCode, stderr } = await crictl.output(['pull', 'registry.k8s.io/e2e-test-images/nothing:1']);
  assert.notEqual(exitCode, 0);
  assert.match(stderr, /registry\.k8s\.io\/e2e-test-images\/nothing:1.*not found/is);
}));

test('a pod with a container lives from runp to rmp', needs(...criNeeds()), () => withCri(async (crictl, cri) => {
  await crictl.run(['pull', busyboxImage]);
  const podFile = await crictl.file('pod.json', podConfig(cri, 'walk'));
  const pod = (await crictl.run(['runp', podFile])).trim();
  const { status } = await crictl.json<PodStatus>(['inspectp', pod]);
  assert.equal(status.state, 'SANDBOX_READY');
  assert.match(status.network.ip, /^10\./);
  assert.deepEqual((await crictl.json<{ items: { id: string }[] }>(['pods', '--label', 'app=walk'])).items.map((each) => each.id), [pod]);

  const script = 'trap "echo bye; exit 7" TERM; echo "hello $WORD"; echo oops >&2; while true; do sleep 0.1; done';
  const id = (await crictl.run(['create', pod, await crictl.file('walk.json', containerConfig('walk', ['sh', '-c', script])), podFile])).trim();
  assert.equal(await state(crictl, id), 'CONTAINER_CREATED');
  await crictl.run(['start', id]);
  assert.equal(await state(crictl, id), 'CONTAINER_RUNNING');
  const running = await crictl.json<{ containers: { id: string; podSandboxId: string; metadata: { name: string } }[] }>(['ps']);
  assert.deepEqual(running.containers.map((each) => [each.id, each.podSandboxId, each.metadata.name]), [[id, pod, 'walk']]);
  await eventually('the log has both streams', () => crictl.output(['logs', id]), ({ stdout, stderr }) => stdout.includes('hello of mouth') && stderr.includes('oops'));

  assert.equal((await crictl.run(['exec', '-s', id, 'hostname'])).trim(), 'walk');
  const failed = await crictl.output(['exec', '-s', id, 'sh', '-c', 'echo seen; exit 3']);
  assert.notEqual(failed.exitCode, 0);
  assert.match(failed.stdout + failed.stderr, /3/);

  await crictl.run(['stop', '--timeout', '30', id]);
  const stopped = (await crictl.json<ContainerStatus>(['inspect', id])).status;
  assert.deepEqual({ state: stopped.state, exitCode: stopped.exitCode, note: stopped.annotations['note'] }, { state: 'CONTAINER_EXITED', exitCode: 7, note: 'kept' });
  assert.match(await crictl.run(['logs', id]), /bye/);
  await crictl.run(['rm', id]);
  assert.equal((await crictl.run(['ps', '-a', '-q'])).trim(), '');
  await crictl.run(['stopp', pod]);
  assert.equal((await crictl.json<PodStatus>(['inspectp', pod])).status.state, 'SANDBOX_NOTREADY');
  await crictl.run(['rmp', pod]);
  assert.equal((await crictl.run(['pods', '-q'])).trim(), '');
}));

test('a container that ends by itself keeps its exit code, and rmp -f takes everything with it', needs(...criNeeds()), () => withCri(async (crictl, cri) => {
  await crictl.run(['pull', busyboxImage]);
  const podFile = await crictl.file('pod.json', podConfig(cri, 'ends'));
  const pod = (await crictl.run(['runp', podFile])).trim();
  const make = async (name: string, script: string): Promise<string> => {
    const id = (await crictl.run(['create', pod, await crictl.file(`${name}.json`, containerConfig(name, ['sh', '-c', script])), podFile])).trim();
    await crictl.run(['start', id]);
    return id;
  };
  const short = await make('short', 'exit 42');
  await make('long', 'sleep 1000');
  const { status } = await eventually('the short one has exited', () => crictl.json<ContainerStatus>(['inspect', short]), (seen) => seen.status.state === 'CONTAINER_EXITED');
  assert.deepEqual([status.exitCode, status.reason], [42, 'Error']);
  await crictl.run(['rmp', '-f', pod]);
  assert.equal((await crictl.run(['ps', '-a', '-q'])).trim(), '');
  assert.equal((await crictl.run(['pods', '-q'])).trim(), '');
}));

test('a second pod of the same name is refused, and stopping and removing what is gone is not an error', needs(...criNeeds()), () => withCri(async (crictl, cri) => {
  const podFile = await crictl.file('pod.json', podConfig(cri, 'once'));
  const pod = (await crictl.run(['runp', podFile])).trim();
  const again = await crictl.output(['runp', podFile]);
  assert.notEqual(again.exitCode, 0);
  assert.match(again.stderr, /once/);
  await crictl.run(['stopp', pod]);
  await crictl.run(['stopp', pod]);
  await crictl.run(['rmp', pod]);
  assert.equal((await crictl.run(['runp', podFile])).trim().length, 64, 'the name is free again');
}));
