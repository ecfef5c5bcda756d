/** Image volumes with the real overlay and OCI runtime: what a container sees of another image, and what it is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Mount } from '#cri-api';
import { layersOf } from '../state/container-record.ts';
import { busyboxLayer, footprint, missing, shell, testPod } from './pod.fake.ts';
import { containerStatus } from './status.ts';

const skip = await missing();
const volume = (fields: Partial<Mount> = {}): Mount => Mount.fromPartial({ containerPath: '/data', readonly: true, image: { image: 'busybox' }, ...fields });

test('an image volume shows the image or a sub path of it, executable and read-only, names its image, and goes with the container', { skip }, async () => {
  const before = await footprint();
  {
    await using pod = await testPod();
    const id = await pod.run(shell('sleep 1000', { mounts: [volume(), volume({ containerPath: '/sub', imageSubPath: 'etc' }), volume({ containerPath: '/file', imageSubPath: '/etc/passwd' })] }));
    const script = '/data/bin/busybox true && cat /sub/passwd /file | grep -c root && touch /data/new';
    const { stdout, stderr, exitCode } = await pod.exec(id, ['/bin/sh', '-c', script]);
    assert.equal(Buffer.from(stdout).toString(), '2\n');
    assert.match(Buffer.from(stderr).toString(), /Read-only file system/);
    assert.equal(exitCode, 1);
    const record = pod.containers.get(id);
    assert.deepEqual(containerStatus(record, () => undefined).mounts.map(({ image }) => image?.imageRef), Array.from({ length: 3 }, () => record.image.id));
    assert.deepEqual(layersOf(record), Array.from({ length: 4 }, () => busyboxLayer));
    await pod.remove(id);
  }
  assert.deepEqual(await footprint(), before);
});

test('a link in the image cannot lead a sub path to the host', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('grep -q extra:x:1002:alice /data/group', { mounts: [volume({ imageSubPath: 'config/../../config' })] }));
  assert.equal((await pod.ended(id)).exitCode, 0);
});

const refused: [string, Partial<Mount>, string, RegExp][] = [
  ['that is to be written', { readonly: false }, 'invalid', /^ImageVolumeMountFailed: mount \/data: an image can only be mounted readonly/],
  ['of an image that is not here', { image: { ...volume().image!, image: 'nope' } }, 'not-found', /^ImageVolumeMountFailed: .*"nope" not found/],
  ['with a source on the host as well', { hostPath: '/etc' }, 'invalid', /^ImageVolumeMountFailed: .*host_path "\/etc"/],
  ['of a sub path that is not in the image', { imageSubPath: 'no/such' }, 'invalid', /^ImageVolumeMountFailed: .*"no\/such" does not exist in the image/],
  ['of a sub path below a file', { imageSubPath: 'etc/passwd/x' }, 'invalid', /does not exist in the image/],
];
for (const [what, fields, kind, message] of refused) {
  test(`an image volume ${what} is refused and leaves nothing`, { skip }, async () => {
    await using pod = await testPod();
    await assert.rejects(pod.create(shell('true', { mounts: [volume(fields)] })), { kind, message });
    assert.deepEqual(pod.containers.list(), []);
  });
}
