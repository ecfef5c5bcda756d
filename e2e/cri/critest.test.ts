/** The CRI's own suite, all of it, with the counts demanded: see e2e/critest.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { expectedCounts, runCritest } from '../critest.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { needs } from '../harness/tools.ts';

const all = { runtime: 'runc', server: 'nodelet', websocket: false, parallel: 1 } as const;

test('critest passes, and skips nothing that this kernel could do', needs('root', 'bundle', 'cri', 'critest', 'conmon'), () => nothingLeft(async () => {
  const { passed, failed, skipped, failures, skips } = await runCritest(all);
  assert.deepEqual({ passed, failed, skipped, failures }, { ...expectedCounts, failures: [] }, `skipped:\n${skips.join('\n')}`);
}));

test('critest streams over websocket too', needs('root', 'bundle', 'cri', 'critest', 'conmon'), () => nothingLeft(async () => {
  const { passed, failures } = await runCritest({ ...all, websocket: true, focus: 'Streaming' });
  assert.deepEqual({ passed, failures }, { passed: 5, failures: [] });
}));
