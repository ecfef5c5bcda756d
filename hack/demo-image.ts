/** Makes the demo image, an OCI layout with one static BusyBox and its applets: `node hack/demo-image.ts BUSYBOX DIRECTORY`. Needs no network. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { Layer } from './images/layer.ts';
import { Layout } from './images/layout.ts';

const reference = 'localhost/nodelet-demo:1';

const [busybox, directory] = process.argv.slice(2);
if (busybox === undefined || directory === undefined) {
  console.error('usage: node hack/demo-image.ts BUSYBOX DIRECTORY');
  process.exit(2);
}
const making = `${directory}.tmp`;
rmSync(making, { recursive: true, force: true });
mkdirSync(dirname(making), { recursive: true });

const layer = new Layer();
for (const name of ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'usr', 'var']) layer.dir(name);
layer.dir('tmp', 0o1777).file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n').file('etc/group', 'root:x:0:\nnogroup:x:65534:\n');
layer.file('bin/busybox', readFileSync(busybox), 0o755);
for (const applet of execFileSync(busybox, ['--list'], { encoding: 'utf8' }).split('\n')) {
  if (applet !== '' && applet !== 'busybox') layer.hardlink(`bin/${applet}`, 'bin/busybox');
}
const layout = new Layout(making);
layout.image([reference], [layer.bytes()], { Cmd: ['sh'] }, { index: false });
layout.finish();
// In place only when whole, so that an interrupted run makes it again.
if (existsSync(directory)) rmSync(directory, { recursive: true });
renameSync(making, directory);
console.log(`${reference} in ${directory}`);
