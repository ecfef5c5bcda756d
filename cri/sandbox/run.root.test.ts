/** RunPodSandbox that fails: what is undone, and when. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NamespaceMode, PodSandboxConfig } from '#cri-api';
import { slowMoves } from '#host/cgroup-moves.ts';
import { quietCtx } from '#host/log.ts';
import { unpinNamespaces } from '#host/namespaces.ts';
import { noNri } from '../nri/nri.ts';
import { cgroupPlace } from '../oci/cgroup-path.ts';
import { Flights } from '../state/flights.ts';
import type { SandboxId } from '../state/ids.ts';
import { criPaths } from '../state/paths.ts';
import { sandboxStore } from '../state/sandbox-store.ts';
import { runPodSandbox } from './run.ts';

test('a sandbox without a network is undone when its init has come up, not while it does', { skip: process.getuid?.() !== 0 && 'needs root' }, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'nl-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const paths = criPaths({ rootDir: join(dir, 'root'), stateDir: join(dir, 'run') });
  await mkdir(paths.sandboxesDir, { recursive: true });
  const happened: string[] = [];
  const deps = {
    paths, sandboxes: sandboxStore(paths.sandboxesDir), flights: new Flights<SandboxId>(), nri: noNri, selinux: false, moves: slowMoves,
    network: { assertReady: () => undefined, attach: () => Promise.reject(new Error('no address left')) },
    resolveHandler: () => 'runc',
    cgroupPlace: (parent: string, id: string) => cgroupPlace({ driver: 'cgroupfs', parent, id }),
    assertUserNamespaces: () => undefined,
    startInit: async () => {
      await sleep(200);
      happened.push('init');
      return { pid: 1, startTicks: 0 };
    },
    teardown: async (_ctx: unknown, id: SandboxId) => {
      happened.push('undone');
      unpinNamespaces(paths.namespacesDir(id));
    },
  };
  const namespaceOptions = { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.NODE };
  const config = PodSandboxConfig.fromPartial({ metadata: { name: 'pod', namespace: 'ns', uid: 'uid' }, linux: { securityContext: { namespaceOptions } } });
  await assert.rejects(runPodSandbox(quietCtx(), deps, { config, runtimeHandler: '' }), /no address left/);
  await sleep(0);
  assert.deepEqual(happened, ['init', 'undone']);
  assert.deepEqual(deps.sandboxes.list(), []);
});
