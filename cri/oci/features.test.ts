/** What OCI runtimes say of themselves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runtimeFeatures } from './features.ts';

const told = (fields: object): string => JSON.stringify({ ociVersionMin: '1.0.0', ociVersionMax: '1.3.0', ...fields });
const idmap = { linux: { mountExtensions: { idmap: { enabled: true } } } };

const cases: [string, string, string | undefined, ReturnType<typeof runtimeFeatures>][] = [
  ['runc 1.5', 'runc 1.5.2', told({ mountOptions: ['ro', 'rro'], ...idmap, annotations: { 'org.opencontainers.runc.checkpoint.enabled': 'true' } }), { recursiveReadOnly: true, idmappedMounts: true, checkpoint: true }],
  ['one that lacks all', 'runc 1.5.2', told({ mountOptions: ['ro'] }), { recursiveReadOnly: false, idmappedMounts: false, checkpoint: false }],
  ['one from before the command', 'crun 1.8.1', undefined, { recursiveReadOnly: true, idmappedMounts: false, checkpoint: false }],
  ['one that answers something else', 'youki 0.5', 'unknown command', { recursiveReadOnly: false, idmappedMounts: false, checkpoint: false }],
];
for (const [what, version, text, features] of cases) test(`features of ${what}`, () => assert.deepEqual(runtimeFeatures(version, text), features));
