/** CDI devices in a container made by the real OCI runtime. */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { missing, shell, testPod, type TestPod } from './pod.fake.ts';

const skip = await missing();

async function podWithFiles(files: Readonly<Record<string, string>>): Promise<TestPod> {
  const pod = await testPod();
  await mkdir(join(pod.dir, 'cdi'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(pod.dir, 'cdi', name), text);
  return pod;
}

const yaml = (dir: string): string => `
cdiVersion: 1.0.0
kind: vendor.com/clock
containerEdits:
  env: [CLOCKS=yes]
  hooks: [{hookName: createRuntime, path: /bin/sh, args: [sh, -c, "cat > ${dir}/hooked"]}]
devices:
- name: "0"
  containerEdits:
    deviceNodes: [{path: /dev/clock, hostPath: /dev/kmsg, permissions: r, fileMode: 292}]
    mounts: [{hostPath: ${dir}, containerPath: /vendor, options: [ro, nosuid]}]
    additionalGids: [777]
`;

test('a container has the nodes, mounts, variables, groups and hooks of its CDI devices, named either way', { skip }, async () => {
  await using pod = await podWithFiles({ 'broken.json': '{' });
  await writeFile(join(pod.dir, 'cdi', 'clock.yaml'), yaml(pod.dir));
  const script = 'test -c /dev/clock && ls -l /dev/clock | cut -c1-10; echo $CLOCKS; id -G; test -d /vendor/cdi && echo mounted; touch /vendor/x 2>&1 | grep -c Read-only';
  for (const config of [{ CDIDevices: [{ name: 'vendor.com/clock=0' }] }, { annotations: { 'cdi.k8s.io/p': 'vendor.com/clock=0' } }]) {
    const id = await pod.run(shell(script, config));
    await pod.ended(id);
    const lines = (await readFile(pod.containers.get(id).logPath ?? '', 'utf8')).split('\n').map((line) => line.split(' ').slice(3).join(' '));
    assert.deepEqual(lines, ['cr--r--r--', 'yes', '0 777', 'mounted', '1', '']);
    assert.equal((JSON.parse(await readFile(join(pod.dir, 'hooked'), 'utf8')) as { id: string }).id, id);
  }
});

test('a device that no file has fails the creation, with what is wrong with the files', { skip }, async () => {
  await using pod = await podWithFiles({ 'broken.json': '{' });
  await assert.rejects(pod.create(shell('true', { CDIDevices: [{ name: 'vendor.com/clock=9' }] })), { kind: 'invalid', message: /vendor\.com\/clock=9 is not known; CDI file .*broken\.json: / });
  assert.deepEqual(pod.containers.list(), []);
});
