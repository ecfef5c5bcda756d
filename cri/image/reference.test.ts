/** Reference grammar: the cases of distribution/reference's own tests that people meet, and messages. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatReference, parseReference, repositoryOf } from './reference.ts';

const hex = 'a'.repeat(64);
const good: readonly (readonly [input: string, want: string])[] = [
  ['busybox', 'docker.io/library/busybox:latest'],
  ['busybox:1.37', 'docker.io/library/busybox:1.37'],
  ['index.docker.io/busybox', 'docker.io/library/busybox:latest'],
  ['docker.io/library/busybox', 'docker.io/library/busybox:latest'],
  ['team/app', 'docker.io/team/app:latest'],
  ['localhost/app', 'localhost/app:latest'],
  ['localhost:5000/app:v1', 'localhost:5000/app:v1'],
  ['127.0.0.1:5000/a/b/c', '127.0.0.1:5000/a/b/c:latest'],
  ['[::1]:5000/app', '[::1]:5000/app:latest'],
  ['Registry/app', 'Registry/app:latest'],
  ['registry.k8s.io/e2e-test-images/busybox:1.29-2', 'registry.k8s.io/e2e-test-images/busybox:1.29-2'],
  ['a__b/c--d.e', 'docker.io/a__b/c--d.e:latest'],
  [`busybox@sha256:${hex}`, `docker.io/library/busybox@sha256:${hex}`],
  [`busybox:1.37@sha256:${hex}`, `docker.io/library/busybox@sha256:${hex}`],
];
for (const [input, want] of good) test(`${input} means ${want}`, () => assert.equal(formatReference(parseReference(input)), want));

const bad: readonly (readonly [input: string, message: RegExp])[] = [
  ['', /is empty/],
  ['Busybox', /must be lower case/],
  ['docker.io/Team/app', /must be lower case/],
  ['busybox:', /tag after ":" is empty/],
  ['busybox:-x', /is not a tag/],
  [`busybox:${'x'.repeat(129)}`, /is not a tag/],
  ['busybox@sha256:abc', /is not a digest/],
  [`busybox@md5:${hex}`, /algorithm "md5" is not supported/],
  [hex, /is an image id/],
  ['https://docker.io/busybox', /starts with a scheme/],
  ['a b', /white space/],
  ['a//b', /empty part/],
  ['/busybox', /empty part/],
  ['exa_mple.com/x', /is not a registry host/],
  ['-/x', /not allowed in a repository name/],
  ['a..b', /not allowed in a repository name/],
  ['x'.repeat(300), /longer than 255/],
  ['x'.repeat(1025), /longer than 1024/],
];
for (const [input, message] of bad) test(`${JSON.stringify(input.slice(0, 40))} is refused: ${message.source}`, () => assert.throws(() => parseReference(input), message));

test('the message of a refusal names the reference', () => assert.throws(() => parseReference('Busybox:1'), /invalid image reference "Busybox:1": the repository name \(Busybox\) must be lower case/));
test('the repository is the name without tag and digest', () => assert.equal(repositoryOf(parseReference('busybox:1')), 'docker.io/library/busybox'));
