/** The images that tests and judges refer to, by the names that they refer to. */
import { Layer } from './layer.ts';
import type { ImageConfig, Layout } from './layout.ts';

/** A static busybox and the names of its applets with their folders, e.g. `bin/ls`. */
export interface Busybox { readonly binary: Buffer; readonly applets: readonly string[] }
/** Static programs that stand in for pause, web servers and the setuid probe (hack/images/programs). */
export interface Programs { readonly pause: Buffer; readonly web: Buffer; readonly nnp: Buffer }

const kubernetes = 'registry.k8s.io';
const e2e = `${kubernetes}/e2e-test-images`;
const criTools = 'gcr.io/k8s-staging-cri-tools';

const passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
`;
const group = `root:x:0:
daemon:x:1:
bin:x:2:
www-data:x:33:
users:x:100:
nobody:x:65534:
`;

/** A root file system in which each applet is a hard link, so that /bin/ls is a file of its own (critest asks for that). */
export function busyboxLayer({ binary, applets }: Busybox): Buffer {
  const layer = new Layer();
  const folders = ['bin', 'dev', 'etc', 'home', 'proc', 'root', 'run', 'sbin', 'sys', 'usr', 'usr/bin', 'usr/local', 'usr/local/bin', 'usr/sbin', 'var', 'var/run', 'var/www'];
  for (const dir of folders) layer.dir(dir);
  layer.dir('tmp', 0o1777).file('etc/passwd', passwd).file('etc/group', group).file('etc/shadow', 'root:*:::::::\n', 0o600).file('bin/busybox', binary, 0o755);
  for (const name of [...new Set(applets)].sort()) if (/^(usr\/)?s?bin\/[^/]+$/.test(name) && name !== 'bin/busybox') layer.hardlink(name, 'bin/busybox');
  return layer.bytes();
}

const marker = (name: string): Buffer => new Layer().file(name, '').bytes();
const program = (at: string, data: Buffer, mode = 0o755): Buffer => new Layer().file(at, data, mode).bytes();

/** Needs a shell and nothing else: what our own tests use most, and a sandbox image for runtimes that want one. Made in a second. */
export function addQuick(layout: Layout, base: Buffer): void {
  addBusybox(layout, base);
  // containerd's sandbox image; of the shell's own sleep, because nothing is compiled here
  layout.image([`${kubernetes}/pause:3.10.2`], [base], { Entrypoint: ['/bin/sleep', 'infinity'], Labels: { use: 'sandbox' } });
  addVariants(layout, base);
}

/** Everything that critest v1.37 refers to (pkg/validate/consts*.go, framework/util.go, *_linux.go). */
export function addCritest(layout: Layout, base: Buffer, programs: Programs): void {
  addBusybox(layout, base);
  addWebServers(layout, base, programs);
  layout.image([`${e2e}/nonewprivs:1.3`], [base, program('usr/local/bin/nnp', programs.nnp, 0o4755)], { Cmd: ['/usr/local/bin/nnp'] }, { format: 'docker' });
  const pause = program('pause', programs.pause);
  layout.image([`${kubernetes}/pause:3.9`, 'k8s.gcr.io/pause:3.9'], [pause], { Entrypoint: ['/pause'], User: '65535:65535' });
  // containerd's sandbox image: not the one above, which critest removes
  layout.image([`${kubernetes}/pause:3.10.2`], [pause], { Entrypoint: ['/pause'], User: '65535:65535', Labels: { use: 'sandbox' } });
  addVariants(layout, base);
  for (const tag of ['1.35.0-glibc', '1', '1-glibc', '1-musl', '1-uclibc']) {
    layout.image([`public.ecr.aws/docker/library/busybox:${tag}`], [base, marker(`bench-${tag}`)], { Cmd: ['sh'] });
  }
}

function addBusybox(layout: Layout, base: Buffer): void {
  layout.image([`${e2e}/busybox:1.29-2`], [base], { Cmd: ['sh'] }, { format: 'docker' });
}

function addWebServers(layout: Layout, base: Buffer, { web }: Programs): void {
  const nginx = program('usr/sbin/nginx', web);
  const port80 = { ExposedPorts: { '80/tcp': {} } };
  layout.image([`${e2e}/nginx:1.14-2`], [base, nginx], { ...port80, StopSignal: 'SIGTERM', Cmd: ['nginx', '-g', 'daemon off;'] }, { format: 'docker' });
  layout.image([`${criTools}/hostnet-nginx-amd64:latest`], [base, nginx], { StopSignal: 'SIGQUIT', Cmd: ['nginx', '-p', '12003'] });
  const httpd: ImageConfig = { ...port80, StopSignal: 'SIGWINCH', WorkingDir: '/usr/local', Cmd: ['/usr/local/bin/httpd'] };
  layout.image([`${e2e}/httpd:2.4.39-4`], [base, program('usr/local/bin/httpd', web)], httpd, { format: 'docker' });
}

/** Images that differ in users, tags, manifests and layers; every form that a registry may serve is among them. */
function addVariants(layout: Layout, base: Buffer): void {
  const groups = new Layer().dir('home/default-user', 0o755, { uid: 1000, gid: 1000 })
    .file('etc/passwd', `${passwd}default-user:x:1000:1000::/home/default-user:/bin/sh\n`)
    .file('etc/group', `${group}default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n`).bytes();
  layout.image([`${criTools}/test-image-predefined-group:latest`], [base, groups], { User: '1000', Cmd: ['sh'] });
  for (const [name, user, compression] of [['uid', '1002', 'zstd'], ['username', 'www-data', 'gzip'], ['uid-group', '1003:1004', 'tar'], ['username-group', 'www-data:1004', 'gzip']] as const) {
    layout.image([`${criTools}/test-image-user-${name}:latest`], [base], { User: user, Cmd: ['sh'] }, { compression, index: compression === 'gzip' });
  }
  for (const name of ['test-image-1', 'test-image-2', 'test-image-3', 'test-image-latest']) layout.image([`${criTools}/${name}:latest`], [base, marker(name)], { Cmd: ['sh'] });
  for (const tag of ['test', 'all']) layout.image([`${criTools}/test-image-tag:${tag}`], [base, marker(tag)], { Cmd: ['sh'] }, { format: 'docker', index: false });
  layout.image([1, 2, 3].map((tag) => `${criTools}/test-image-tags:${tag}`), [base, marker('same-image')], { Cmd: ['sh'] });
  addDigestImage(layout);
}

/** critest pulls this one by digest. It contains nothing that a compiler or a compressor made, so the digest is the same everywhere. */
export function addDigestImage(layout: Layout): string {
  return layout.image([`${criTools}/test-image-digest:latest`], [marker('test-image-digest')], { Cmd: ['sh'] }, { compression: 'tar' });
}

/** Three images of some 200 MB for timing pulls: the same eight layers, differently packed. */
export function addBench(layout: Layout): void {
  const layers = benchLayers();
  for (const compression of ['gzip', 'zstd', 'tar'] as const) {
    layout.image([`${kubernetes}/bench/big:${compression}`], layers, { Cmd: ['/none'], Labels: { layers: compression } }, { compression, index: false });
  }
}

/** Six layers of big files and two of many small ones, compressible to about half; from a fixed seed. */
function benchLayers(): Buffer[] {
  const next = random(20_240_101);
  const text = (bytes: number): Buffer => Buffer.from(Uint32Array.from({ length: Math.ceil(bytes / 8) }, next).reduce((all, word, i) => {
    all.write(word.toString(16).padStart(8, '0'), i * 8, 'latin1');
    return all;
  }, Buffer.alloc(Math.ceil(bytes / 8) * 8)).subarray(0, bytes));
  return Array.from({ length: 8 }, (_, i) => {
    const layer = new Layer().dir('data').dir(`data/layer${i}`);
    if (i !== 2 && i !== 5) for (let k = 0; k < 16; k++) layer.file(`data/layer${i}/big${k}`, text(2 << 20));
    else for (let d = 0; d < 20; d++) {
      layer.dir(`data/layer${i}/d${d}`);
      for (let k = 0; k < 100; k++) layer.file(`data/layer${i}/d${d}/f${k}`, text(512 + (next() % 7680)));
    }
    return layer.bytes();
  });
}

/** mulberry32: 32 bits per call, good enough to be incompressible. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}
