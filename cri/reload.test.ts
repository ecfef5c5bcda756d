/** A reload puts each changed key where it belongs, and does nothing at all when one of them cannot be used. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allKeys, readKeys, withLive } from '#host/config/key.ts';
import { Fault } from '#host/fault.ts';
import { quietCtx } from '#host/log.ts';
import { criKeys, type CriConfig } from './config.ts';
import { reload } from './reload.ts';

const configOf = (raw: object): CriConfig => readKeys(criKeys, raw, [], ({ message }) => assert.fail(message));

function parts(probe: () => Promise<never[]> = async () => []) {
  const done: string[] = [];
  const note = (what: string) => (...values: unknown[]): void => void done.push(`${what} ${JSON.stringify(values)}`);
  return {
    done,
    parts: {
      probeRuntimes: probe,
      runtimes: { replace: note('runtimes') },
      cni: { reconfigure: note('cni') },
      images: { pin: (names: ReadonlySet<string>) => note('pin')([...names]), setLimits: ({ progressTimeoutMs }: CriConfig['images']) => note('limits')(progressTimeoutMs) },
      streaming: { setIdleTimeout: note('idle') },
    } as unknown as Parameters<typeof reload>[1], // of each part what a reload calls
  };
}

test('only what changed is touched, and things that belong together once', async () => {
  const at = parts();
  const config = configOf({ cni: { confDir: '/n', binDirs: ['/b'] }, images: { progressTimeout: '9s' }, streaming: { idleTimeout: '1h' } });
  await reload(quietCtx(), at.parts, { config, changed: ['cni.confDir', 'cni.binDirs', 'images.progressTimeout', 'images.credentialsFile', 'streaming.idleTimeout'] });
  assert.deepEqual(at.done, ['cni [{"confDir":"/n","binDirs":["/b"]}]', 'limits [9000]', 'idle [3600000]']);
});

test('a runtime that does not work keeps everything else from changing too', async () => {
  const at = parts(() => Promise.reject(new Fault('precondition', 'OCI runtime does not work here')));
  await assert.rejects(reload(quietCtx(), at.parts, { config: configOf({}), changed: ['runtimes', 'cni.confDir'] }), { kind: 'precondition' });
  assert.deepEqual(at.done, []);
});

test('every live key does something', async () => {
  for (const { name } of allKeys(criKeys).filter(({ isLive }) => isLive)) {
    const at = parts();
    await reload(quietCtx(), at.parts, { config: configOf({}), changed: [name] });
    assert.equal(at.done.length, 1, name);
  }
});

test('of a new configuration only the live values are taken', () => {
  const before = configOf({ rootDir: '/a', images: { progressTimeout: '1s', maxImageSize: '1Gi' } });
  const after = configOf({ rootDir: '/b', defaultRuntime: 'crun', images: { progressTimeout: '2s', maxImageSize: '2Gi' } });
  const now = withLive(criKeys, before, after);
  assert.deepEqual([now.rootDir, now.defaultRuntime, now.images.progressTimeoutMs, now.images.maxImageSizeBytes], ['/a', 'crun', 2000, 1024 ** 3]);
});
