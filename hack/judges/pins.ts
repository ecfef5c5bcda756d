/** The pinned versions of the programs that judge us, how each is built, and where the built ones are found. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';

export const kubernetesVersion = 'v1.37.2';
/** `crictl` and `critest` share this module. */
const criToolsVersion = 'v1.37.0';

/** Modules that are built inside a writable copy of their directory; `sum` is the line that go.sum would have. */
export const modules = {
  containerd: { path: 'github.com/containerd/containerd/v2', version: 'v2.4.2', sum: 'h1:p6Qg+xbEz8lvwdhHDx0U469xENvp4LgGBx+E7djXkGw=' },
  runc: { path: 'github.com/opencontainers/runc', version: 'v1.5.2', sum: 'h1:eUUowc2WJCnFYzI87C1WqRcu356Dk/wsoi90y+2wEfE=' },
  plugins: { path: 'github.com/containernetworking/plugins', version: 'v1.9.1', sum: 'h1:8oU6WsIsU3bpnNZuvHp74a6cE1MJwbj2P7s4/yTUNlA=' },
  criTools: { path: 'sigs.k8s.io/cri-tools', version: criToolsVersion, sum: 'h1:BmTImEoTX3KPXCLwmIU9mfCC8umUqF4R8WibY9eVU9Y=' },
  crane: { path: 'github.com/google/go-containerregistry', version: 'v0.22.1', sum: 'h1:RZuuSYhTvlDvtsK+NkutoCZ//C0X2ebLK8X8l3ULs84=' },
} as const satisfies Record<string, { path: string; version: string; sum: string }>;
export type ModuleName = keyof typeof modules;

export interface Judge {
  /** The file's name below bin/, or cni/ for network plugins. */
  readonly name: string;
  /** A module above, or the folder beside this file whose go.mod pins everything. */
  readonly from: ModuleName | 'k8s' | 'etcd' | 'coredns';
  readonly package: string;
  readonly ldflags?: string;
  readonly tags?: string;
  readonly cgo?: boolean;
  /** `go test -c` instead of `go build`. */
  readonly test?: boolean;
  readonly cni?: boolean;
}

const component = ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version'].map((at) =>
  [`gitVersion=${kubernetesVersion}`, 'gitMajor=1', 'gitMinor=37', 'gitTreeState=clean', 'gitCommit=proxy', 'buildDate=2026-11-01T00:00:00Z']
    .map((value) => ` -X ${at}.${value}`).join('')).join('');
const kubernetes = (name: string, pkg = `k8s.io/kubernetes/cmd/${name}`): Judge => ({ name, from: 'k8s', package: pkg, ldflags: component });

const containerd = (name: string): Judge => ({
  name, from: 'containerd', package: `./cmd/${name}`,
  tags: 'no_btrfs no_devmapper no_zfs netgo osusergo static_build urfave_cli_no_docs',
  ldflags: ` -X ${modules.containerd.path}/version.Version=${modules.containerd.version} -X ${modules.containerd.path}/version.Revision=modproxy`,
});

const plugin = (kind: string, name: string): Judge => ({
  name, from: 'plugins', package: `./plugins/${kind}/${name}`, cni: true,
  ldflags: ` -X ${modules.plugins.path}/pkg/utils/buildversion.BuildVersion=${modules.plugins.version}`,
});

const criTool = (name: string, test = false): Judge => ({
  name, from: 'criTools', package: `./cmd/${name}`, test, ldflags: ` -X ${modules.criTools.path}/pkg/version.Version=${criToolsVersion}`,
});

const runc: Judge = {
  name: 'runc', from: 'runc', package: '.', cgo: true, tags: 'seccomp netgo osusergo',
  ldflags: ` -X main.version=${modules.runc.version.slice(1)} -X main.gitCommit=modproxy -extldflags -static`,
};

const cniPlugins = [
  plugin('main', 'bridge'), plugin('ipam', 'host-local'), plugin('main', 'loopback'), plugin('meta', 'portmap'),
  plugin('meta', 'firewall'), plugin('meta', 'bandwidth'), plugin('main', 'ptp'),
];
const controlPlane = [
  { name: 'etcd', from: 'etcd', package: 'go.etcd.io/etcd/server/v3' } as const satisfies Judge,
  kubernetes('kubectl'), kubernetes('kube-apiserver'), kubernetes('kube-controller-manager'), kubernetes('kube-scheduler'), kubernetes('kubeadm'),
];
const runtime = [...['containerd', 'containerd-shim-runc-v2', 'ctr'].map(containerd), runc];

/** What can be asked for by one word. `test` is what `npm test` needs. */
export const groups = {
  cni: cniPlugins,
  cri: [criTool('crictl'), ...cniPlugins, ...runtime],
  cluster: controlPlane,
  test: [criTool('crictl'), ...cniPlugins, ...runtime, ...controlPlane, kubernetes('kubelet')],
  critest: [criTool('critest', true)],
  conformance: [
    kubernetes('agnhost', 'k8s.io/kubernetes/test/images/agnhost'), kubernetes('ginkgo', 'github.com/onsi/ginkgo/v2/ginkgo'), kubernetes('kube-proxy'),
    { ...kubernetes('e2e.test', 'k8s.io/kubernetes/test/e2e'), test: true }, { name: 'coredns', from: 'coredns', package: 'github.com/coredns/coredns' },
  ],
  crane: [{ name: 'crane', from: 'crane', package: './cmd/crane' }],
} as const satisfies Record<string, readonly Judge[]>;

/** Every judge once, in the order in which they are best built (what compiles the most first within its module). */
export const judges: readonly Judge[] = [...new Map(
  [...groups.test, ...groups.critest, ...groups.crane, ...groups.conformance].map((judge: Judge) => [judge.name, judge])).values()];

/** critest pulls one image by a digest that nobody can forge; ours has this one (hack/images makes it, and it contains nothing a compiler made). */
export const critestImageDigest = 'sha256:91e96a0fd43c195469f77862d241bcc5a718b335cb07a7c3a3d19418a13077b7';

/** Changes with every pin, so that binaries of different versions never mix in the cache. */
export function judgesVersion(): string {
  const hash = createHash('sha256').update(JSON.stringify({ modules, judges, critestImageDigest }));
  for (const folder of ['k8s', 'etcd', 'coredns']) {
    for (const file of ['go.mod', 'go.sum']) hash.update(readFileSync(path.join(import.meta.dirname, folder, file)));
  }
  return `${kubernetesVersion}-${hash.digest('hex').slice(0, 12)}`;
}

/** ~/.cache/nodelet, or NODELET_CACHE. Shared by all working copies on a machine. */
export const cacheDir = (): string => process.env['NODELET_CACHE'] ?? path.join(process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache'), 'nodelet');
export const judgesDir = (): string => path.join(cacheDir(), 'judges', judgesVersion());
export const judgePath = (judge: Judge): string => path.join(judgesDir(), judge.cni === true ? 'cni' : 'bin', judge.name);

/** Path of a built judge by name, or undefined when it is not built. */
export function findJudge(name: string): string | undefined {
  const judge = judges.find((each) => each.name === name);
  if (judge === undefined) throw new Error(`no judge is called ${name}; there are: ${judges.map((each) => each.name).join(' ')}`);
  const file = judgePath(judge);
  return existsSync(file) ? file : undefined;
}
