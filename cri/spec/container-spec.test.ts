/** config.json of representative containers, whole: golden files in testdata/ (node --test --test-update-snapshots rewrites them; review the diff). */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { ContainerConfig, type DeepPartial, MountPropagation, NamespaceMode, SecurityProfile_ProfileType, SupplementalGroupsPolicy } from '#cri-api';
import { allCapabilities } from './capabilities.ts';
import { containerSpec, type ContainerSpecInput } from './container-spec.ts';
import { resolveUser } from './user.ts';

const accounts = {
  passwd: 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n1000:x:0:0::/:/bin/sh\nalice:x:1000:1001::/:/bin/sh\n',
  group: 'root:x:0:\nwww-data:x:33:\nextra:x:50:alice,www-data\n',
};
const image = { name: 'docker.io/library/web:1', user: 'www-data', env: ['PATH=/usr/bin', 'LANG=C'], entrypoint: ['/entry'], cmd: ['serve'], workingDir: '/srv' };

function input(config: DeepPartial<ContainerConfig>, rest: Partial<ContainerSpecInput> = {}): ContainerSpecInput {
  const full = ContainerConfig.fromPartial({ metadata: { name: 'web', attempt: 0 }, ...config });
  return {
    id: 'c1',
    config: full,
    sandbox: {
      id: 's1', name: 'pod', namespace: 'default', uid: 'u1', hostname: 'pod', privileged: false,
      mappings: undefined, selinuxLevel: 's0',
      namespaces: { net: '/ns/net', ipc: '/ns/ipc', uts: '/ns/uts', pid: undefined },
      files: { hosts: '/pod/hosts', hostname: '/pod/hostname', resolvConf: '/pod/resolv.conf', shm: '/pod/shm' },
    },
    image,
    user: resolveUser(full.linux?.securityContext, image, accounts),
    rootfs: '/c1/rootfs',
    cgroup: { cgroupsPath: '/kubepods/c1', cgroupPath: '/kubepods/c1' },
    mounts: [], volumes: [], devices: [],
    seccompFile: undefined, targetPid: undefined, features: { recursiveReadOnly: true }, hasHostDevices: true,
    host: {
      capabilities: allCapabilities.filter((name) => name !== 'CAP_SYS_RESOURCE'),
      lowestOomScoreAdj: 0, appArmor: { enabled: false }, selinux: false, arch: 'x64', abis: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
      cgroupVersion: 2, controllers: new Set(['cpu', 'memory', 'pids', 'hugetlb']), swapAccounting: true,
    },
    ...rest,
  };
}

const privateIds = { network: NamespaceMode.POD, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD };
const prepared = (mount: object): ContainerSpecInput['mounts'][number] => {
  const [full] = ContainerConfig.fromPartial({ mounts: [mount] }).mounts;
  assert.ok(full !== undefined);
  return { mount: full, source: full.hostPath, hostPropagation: 'shared', isMapped: false };
};

const cases: [string, ContainerSpecInput][] = [
  ['plain', input({})],
  [
    'confined',
    input({
      command: ['/bin/app'], args: ['--port=80'], tty: true, envs: [{ key: 'LANG', value: Buffer.from('de') }],
      linux: {
        resources: { cpuPeriod: 100_000n, cpuQuota: 50_000n, cpuShares: 512n, memoryLimitInBytes: 64_000_000n, oomScoreAdj: -997n, unified: { 'memory.high': '60000000' } },
        securityContext: {
          namespaceOptions: privateIds, runAsUser: { value: 1000n }, runAsGroup: { value: 3000n }, supplementalGroups: [4000n],
          supplementalGroupsPolicy: SupplementalGroupsPolicy.Strict, readonlyRootfs: true, noNewPrivs: true,
          capabilities: { addCapabilities: ['NET_ADMIN'], dropCapabilities: ['ALL'] },
          maskedPaths: ['/proc/kcore'], readonlyPaths: ['/proc/sys'], seccomp: { profileType: SecurityProfile_ProfileType.RuntimeDefault },
        },
      },
    }),
  ],
  [
    'mounts',
    input(
      { linux: { securityContext: { namespaceOptions: privateIds } } },
      {
        mounts: [
          prepared({ containerPath: '/data/deep/er', hostPath: '/h/3', propagation: MountPropagation.PROPAGATION_HOST_TO_CONTAINER }),
          prepared({ containerPath: '/data', hostPath: '/h/1', readonly: true, recursiveReadOnly: true, mountOptions: ['noexec'] }),
          prepared({ containerPath: '/etc/hosts', hostPath: '/kubelet/hosts' }),
          prepared({ containerPath: '/dev/shm', hostPath: '/h/shm' }),
        ],
        volumes: [{ containerPath: '/data', source: '/v/0' }, { containerPath: '/cache', source: '/v/1' }],
        devices: [{ containerPath: '/dev/fuse', type: 'c', major: 10, minor: 229, mode: 0o20666, uid: 0, gid: 0, permissions: 'rw' }],
      },
    ),
  ],
  [
    'host',
    input(
      { linux: { securityContext: { privileged: true, namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.NODE, ipc: NamespaceMode.NODE } } } },
      {
        sandbox: {
          id: 's1', name: 'pod', namespace: 'default', uid: 'u1', hostname: 'node', privileged: true, mappings: undefined, selinuxLevel: 's0',
          namespaces: { net: undefined, ipc: undefined, uts: undefined, pid: undefined },
          files: { hosts: '/pod/hosts', hostname: '/pod/hostname', resolvConf: '/pod/resolv.conf', shm: undefined },
        },
      },
    ),
  ],
];

for (const [name, given] of cases) {
  test(`config.json of a container: ${name}`, (t) => {
    const spec = containerSpec(given);
    // 363 names: the profile has a test of its own.
    const short = spec.linux.seccomp === undefined ? spec : { ...spec, linux: { ...spec.linux, seccomp: { ...spec.linux.seccomp, syscalls: spec.linux.seccomp.syscalls?.length } } };
    t.assert.fileSnapshot(short, join(import.meta.dirname, 'testdata', `${name}.json`), { serializers: [(value: unknown) => JSON.stringify(value, null, 2)] });
  });
}

const refused: [string, () => ContainerSpecInput, RegExp][] = [
  ['a privileged container in a sandbox that is not', () => input({ linux: { securityContext: { privileged: true } } }), /privileged/],
  ['an unknown capability', () => input({ linux: { securityContext: { capabilities: { addCapabilities: ['FLY'] } } } }), /FLY/],
  ['a group without a user', () => input({ linux: { securityContext: { runAsGroup: { value: 5n } } } }), /user group "5" is specified without user/],
  ['a user that the image does not have', () => input({ linux: { securityContext: { runAsUsername: 'bob' } } }), /bob/],
  ['nothing to run', () => input({}, { image: { name: 'x' } }), /no command specified/],
  ['a NUL in a variable', () => input({ envs: [{ key: 'A', value: Buffer.from('a\0b') }] }), /NUL/],
  ['recursive read-only without read-only', () => input({}, { mounts: [prepared({ containerPath: '/a', hostPath: '/b', recursiveReadOnly: true })] }), /needs readonly/],
  [
    'recursive read-only that the OCI runtime does not have',
    () => input({}, { features: { recursiveReadOnly: false }, mounts: [prepared({ containerPath: '/a', hostPath: '/b', readonly: true, recursiveReadOnly: true })] }),
    /^RROUnsupported: mount \/a/,
  ],
  [
    'recursive read-only with propagation',
    () => input({}, { mounts: [prepared({ containerPath: '/a', hostPath: '/b', readonly: true, recursiveReadOnly: true, propagation: MountPropagation.PROPAGATION_BIDIRECTIONAL })] }),
    /private propagation/,
  ],
  [
    'sharing mounts with a host directory that is not shared',
    () => input({}, { mounts: [{ ...prepared({ containerPath: '/a', hostPath: '/b', propagation: MountPropagation.PROPAGATION_BIDIRECTIONAL }), hostPropagation: 'slave' }] }),
    /not on a shared mount/,
  ],
  ['a mount over the root', () => input({}, { mounts: [prepared({ containerPath: '/', hostPath: '/b' })] }), /not a place/],
  ['a mount option that is none', () => input({}, { mounts: [prepared({ containerPath: '/a', hostPath: '/b', mountOptions: ['size=1'] })] }), /size=1/],
  [
    'an AppArmor profile on a host without',
    () => input({ linux: { securityContext: { apparmor: { profileType: SecurityProfile_ProfileType.Localhost, localhostRef: 'mine' } } } }),
    /AppArmor is not supported/,
  ],
];
for (const [what, given, message] of refused) {
  test(`refused as invalid: ${what}`, () => {
    assert.throws(() => containerSpec(given()), (error: unknown) => error instanceof Error && 'kind' in error && error.kind === 'invalid' && message.test(error.message));
  });
}

test('a numeric user is an id even when the image has a user of that name', () => {
  const context = input({ linux: { securityContext: { runAsUser: { value: 1000n } } } }).config.linux?.securityContext;
  assert.deepEqual(resolveUser(context, image, accounts), { uid: 1000, gid: 1001, additionalGids: [1001, 50] });
});
