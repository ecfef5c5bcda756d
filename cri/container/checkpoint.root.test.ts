/** Checkpoints with a runtime that plays CRIU's part: there is no CRIU on most machines. Everything else is real. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { findProgram, runChecked } from '#host/exec.ts';
import { checkpointContainer, type CheckpointDeps } from './checkpoint.ts';
import { missing, shell, testPod, type TestPod } from './pod.fake.ts';

const skip = await missing();

/** `checkpoint` makes one image and notes its arguments; all else goes to the real one. */
async function withCheckpoint(pod: TestPod, ending = 'exit 0'): Promise<CheckpointDeps> {
  const path = join(pod.dir, 'runtime.sh');
  await writeFile(path, `#!/bin/sh\ncase " $* " in *" checkpoint "*) ;; *) exec ${pod.runtime.path} "$@";; esac
while [ "$1" != --image-path ]; do shift; done; mkdir "$2"; echo memory > "$2/pages-1.img"; ${ending}\n`);
  await chmod(path, 0o755);
  const runtime = { ...pod.runtime, path, features: { ...pod.runtime.features, checkpoint: true } };
  return { containers: pod.containers, lock: pod.lock, runtimeOf: () => runtime, findCriu: () => Promise.resolve('/usr/sbin/criu') };
}

test('a checkpoint is one private archive with memory, files and what the container is, which runs on', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('echo data > /etc/written; sleep 1000'));
  await pod.exec(id, ['/bin/sh', '-c', 'until [ -s /etc/written ]; do sleep 0.02; done']);
  const location = join(pod.dir, 'c.tar');
  const deps = await withCheckpoint(pod);
  for (let again = 0; again < 2; again++) await checkpointContainer(pod.ctx, deps, { id, location, timeoutSeconds: 0 });
  assert.equal((await stat(location)).mode & 0o777, 0o600);
  const tar = async (...args: string[]): Promise<string> => (await runChecked(pod.ctx, { path: (await findProgram('tar')) ?? '', args })).stdout.toString('utf8');
  assert.deepEqual((await tar('-tf', location)).split('\n').toSorted(), ['', './', './checkpoint/', './checkpoint/pages-1.img', './config.dump', './rootfs-diff.tar', './spec.dump']);
  await tar('-xf', location, '-C', pod.dir, './rootfs-diff.tar', './config.dump');
  assert.match(await tar('-tf', join(pod.dir, 'rootfs-diff.tar')), /^\.\/etc\/written$/m);
  assert.equal((JSON.parse(await readFile(join(pod.dir, 'config.dump'), 'utf8')) as { id: string }).id, id);
  assert.equal(pod.containers.get(id).state.name, 'running');
  assert.equal(existsSync(join(pod.paths.containerDir(id), 'checkpoint')), false);
});

test('a checkpoint that fails says what the runtime said and leaves no file', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('sleep 1000'));
  const request = { id, location: join(pod.dir, 'logs', 'c.tar'), timeoutSeconds: 5 };
  await assert.rejects(checkpointContainer(pod.ctx, await withCheckpoint(pod, 'echo criu failed >&2; exit 1'), request), { kind: 'internal', message: /checkpoint: criu failed/ });
  const deps = await withCheckpoint(pod);
  await assert.rejects(checkpointContainer(pod.ctx, { ...deps, findCriu: () => Promise.resolve(undefined) }, request), { kind: 'unimplemented', message: /criu/ });
  await assert.rejects(checkpointContainer(pod.ctx, deps, { ...request, location: 'c.tar' }), { kind: 'invalid' });
  await pod.stop(id, 0);
  await assert.rejects(checkpointContainer(pod.ctx, deps, request), { kind: 'precondition', message: /is exited, not running/ });
  assert.deepEqual((await readdir(join(pod.dir, 'logs'))).filter((name) => name.includes('c.tar')), []);
});
