/** Stand-ins for the images of Kubernetes' own e2e.test 1.37: agnhost is the real program, the rest has the same names and the content that the tests use. */
import { hostPrograms } from './host-programs.ts';
import { Layer } from './layer.ts';
import type { ImageConfig, Layout } from './layout.ts';
import { busyboxLayer, type Busybox, type Programs } from './sets.ts';

const e2e = 'registry.k8s.io/e2e-test-images';

export interface ConformanceParts extends Programs {
  readonly busybox: Busybox;
  /** The judge. */
  readonly agnhost: Buffer;
}

const users = `root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh
`;
const groups = `root:x:0:
nogroup:x:65534:
user-defined-in-image:x:1000:
group-defined-in-image:x:50000:user-defined-in-image
`;

/** Every tag has an image id of its own (a label sees to that): a runtime reports another tag of the same id otherwise, and an image update goes unseen. */
export function addConformance(layout: Layout, parts: ConformanceParts): void {
  const base = busyboxLayer(parts.busybox);
  const facts = new Layer().file('etc/passwd', users).file('etc/group', groups).file('etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n')
    // the ImageVolume conformance test looks for these words
    .file('etc/os-release', 'NAME="Stand-in for Alpine Linux"\n').bytes();
  const add = (references: readonly string[], layers: readonly Buffer[], config: ImageConfig): void => {
    for (const reference of references) layout.image([reference], layers, { ...config, Labels: { name: reference } });
  };
  add(['registry.k8s.io/pause:3.10.2'], [new Layer().file('pause', parts.pause, 0o755).bytes()], { Entrypoint: ['/pause'], User: '65535:65535' });
  add([`${e2e}/busybox:1.37.0-2`, `${e2e}/busybox:1.36.1-1`], [base, facts], { Cmd: ['sh'] });
  add([`${e2e}/nonroot:1.5`], [base, facts], { Cmd: ['sh'], User: '1234' });
  add([`${e2e}/nonewprivs:1.4`], [base, facts, new Layer().file('usr/local/bin/nnp', parts.nnp, 0o4755).bytes()], { Cmd: ['nnp'] });
  add([`${e2e}/ipc-utils:1.4`], [base, facts], { Cmd: ['sh'] });
  add([`${e2e}/nginx:1.28.0-2`, `${e2e}/nginx:1.27.0-2`], [base, facts, new Layer().file('usr/sbin/nginx', parts.web, 0o755).bytes()], { Cmd: ['nginx'] });
  const tools = hostPrograms(['bash', 'curl', 'dig', 'nslookup', 'socat', 'getent', 'iperf', 'ip', 'ss', 'nc.openbsd'], { 'bin/bash': '../usr/bin/bash' });
  const agnhost = new Layer().file('agnhost', parts.agnhost, 0o755).symlink('agnhost-2', 'agnhost').dir('uploads').bytes();
  add([`${e2e}/agnhost:2.66.1`, `${e2e}/agnhost:2.55`], [base, facts, tools, agnhost], { Entrypoint: ['/agnhost'], Cmd: ['pause'] });
}
