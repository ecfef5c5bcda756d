/** What a config asks for, seen from inside a container made by the real OCI runtime. */
import assert from 'node:assert/strict';
import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ContainerConfig, type DeepPartial, LinuxContainerConfig, type LinuxContainerSecurityContext, Mount, MountPropagation, NamespaceMode, SecurityProfile_ProfileType } from '#cri-api';
import { makePropagation, mount } from '#host/mount.ts';
import { missing, shell, testPod, type TestPod } from './pod.fake.ts';

const skip = await missing();

const linux = (securityContext: DeepPartial<LinuxContainerSecurityContext>): LinuxContainerConfig =>
  LinuxContainerConfig.fromPartial({ securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER }, ...securityContext } as DeepPartial<LinuxContainerSecurityContext> });

/** The lines that a script prints, without their stamps. */
async function output(pod: TestPod, script: string, config: Partial<ContainerConfig> = {}): Promise<string[]> {
  const id = await pod.run(shell(script, config));
  await pod.ended(id);
  const log = await readFile(pod.containers.get(id).logPath ?? '', 'utf8');
  return log.split('\n').filter((line) => line !== '').map((line) => line.split(' ').slice(3).join(' ').trimEnd());
}

test('a container without a log path runs without a log', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('echo lost; exit 3', { logPath: '' }));
  assert.equal((await pod.ended(id)).exitCode, 3);
});

test('a container with a terminal has one on all three descriptors', { skip }, async () => {
  await using pod = await testPod();
  const lines = await output(pod, 'test -t 0 && test -t 1 && test -t 2 && echo terminal $TERM; test -c /dev/console && echo console', { tty: true });
  assert.deepEqual(lines, ['terminal xterm', 'console']);
});

test('the default seccomp profile forbids new namespaces and allows the rest', { skip }, async () => {
  await using pod = await testPod();
  const seccomp = { profileType: SecurityProfile_ProfileType.RuntimeDefault };
  const capabilities = { addCapabilities: ['SYS_PTRACE'] };
  const lines = await output(pod, 'ls / >/dev/null && echo fine; mkdir /tmp/m; mount -t tmpfs none /tmp/m 2>/dev/null || echo no mount; grep Seccomp: /proc/self/status', {
    linux: linux({ seccomp, capabilities }),
  });
  assert.deepEqual(lines, ['fine', 'no mount', 'Seccomp:\t2']);
});

test('a seccomp profile from a file is applied', { skip }, async () => {
  await using pod = await testPod();
  const localhostRef = join(pod.dir, 'profile.json');
  await writeFile(localhostRef, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO' }] }));
  const lines = await output(pod, 'mkdir /tmp/x 2>/dev/null || echo refused', { linux: linux({ seccomp: { profileType: SecurityProfile_ProfileType.Localhost, localhostRef } }) });
  assert.deepEqual(lines, ['refused']);
});

test('a privileged container mounts, sees devices and writes to /sys, where an ordinary one does not', { skip }, async () => {
  await using pod = await testPod({ podPrivileged: true });
  const script = 'mkdir /tmp/m; mount -t tmpfs none /tmp/m 2>/dev/null && echo mounts; ls /dev | wc -l; touch /sys/kernel/x 2>&1 | grep -c Read-only';
  const [mounts, devices, readOnly] = await output(pod, script, { linux: linux({ privileged: true }) });
  assert.deepEqual([mounts, readOnly], ['mounts', '0']);
  const [ordinaryDevices, ordinaryReadOnly] = await output(pod, script);
  assert.ok(Number(devices) >= Number(ordinaryDevices));
  assert.equal(ordinaryReadOnly, '1');
});

test('masked paths are empty, read-only ones refuse writes', { skip }, async () => {
  await using pod = await testPod();
  const lines = await output(pod, 'wc -c </proc/kallsyms; echo 1 2>/dev/null >/proc/sys/kernel/domainname || echo refused', {
    linux: linux({ maskedPaths: ['/proc/kallsyms'], readonlyPaths: ['/proc/sys'] }),
  });
  assert.deepEqual(lines, ['0', 'refused']);
});

test('mounts: a link is followed, a missing source is made, read-only holds, parents come before children', { skip }, async () => {
  await using pod = await testPod();
  const real = join(pod.dir, 'real');
  await mkdir(real);
  await writeFile(join(real, 'file'), 'content\n');
  await symlink(real, join(pod.dir, 'link'));
  const absent = join(pod.dir, 'absent/deep');
  const mounts = [
    Mount.fromPartial({ containerPath: '/data/sub', hostPath: absent }),
    Mount.fromPartial({ containerPath: '/data', hostPath: join(pod.dir, 'link'), readonly: true }),
  ];
  await mkdir(join(real, 'sub'));
  const lines = await output(pod, 'cat /data/file; touch /data/x 2>/dev/null || echo read-only; touch /data/sub/made && echo writable', { mounts });
  assert.deepEqual(lines, ['content', 'read-only', 'writable']);
  assert.equal((await stat(join(absent, 'made'))).isFile(), true);
});

test('a mount of the host appears in a container that asked for propagation', { skip }, async () => {
  await using pod = await testPod();
  const shared = join(pod.dir, 'shared');
  await mkdir(shared);
  await mount({ source: 'a', target: shared, type: 'tmpfs', options: [] });
  await makePropagation(shared, 'shared');
  await mkdir(join(shared, 'later'));
  const mounts = [Mount.fromPartial({ containerPath: '/shared', hostPath: shared, propagation: MountPropagation.PROPAGATION_HOST_TO_CONTAINER })];
  const id = await pod.run(shell('sleep 1000', { mounts }));
  await mount({ source: 'b', target: join(shared, 'later'), type: 'tmpfs', options: [] });
  await writeFile(join(shared, 'later/seen'), '');
  assert.equal(Buffer.from((await pod.exec(id, ['/bin/ls', '/shared/later'])).stdout).toString(), 'seen\n');
});

test('a VOLUME of the image is writable even below a read-only root, with what the image has there', { skip }, async () => {
  await using pod = await testPod({ imageVolumes: ['/etc', '/new/deep'] });
  const lines = await output(pod, 'touch /etc/x && echo writable; grep -c alice /etc/passwd; touch /new/deep/x && echo made; touch /y 2>/dev/null || echo read-only', {
    linux: linux({ readonlyRootfs: true }),
  });
  assert.deepEqual(lines, ['writable', '1', 'made', 'read-only']);
});

test('a device of the host is there with its permissions, others are refused', { skip }, async () => {
  await using pod = await testPod();
  const devices = [{ containerPath: '/dev/nothing', hostPath: '/dev/null', permissions: 'rw' }];
  assert.deepEqual(await output(pod, 'echo x >/dev/nothing && test -c /dev/nothing && echo there', { devices }), ['there']);
  await assert.rejects(pod.create({ devices: [{ containerPath: '/dev/x', hostPath: '/etc/passwd', permissions: 'r' }] }), { kind: 'invalid' });
});

test('one joins the pid namespace of another container of its pod', { skip }, async () => {
  await using pod = await testPod();
  const target = await pod.run(shell('exec sleep 4323'));
  const lines = await output(pod, 'ps | grep -c "[s]leep 4323"', {
    linux: LinuxContainerConfig.fromPartial({ securityContext: { namespaceOptions: { pid: NamespaceMode.TARGET, targetId: target } } }),
  });
  assert.deepEqual(lines, ['1']);
  assert.equal(pod.containers.get(target).state.name, 'running');
});

test('a handler may keep the devices of the host from privileged containers', { skip }, async () => {
  await using pod = await testPod({ podPrivileged: true, privilegedWithoutHostDevices: true });
  const devices = [{ containerPath: '/dev/mine', hostPath: '/dev/kmsg', permissions: 'r' }];
  const lines = await output(pod, 'ls /dev', { devices, linux: linux({ privileged: true }) });
  assert.deepEqual(['mine', 'kmsg', 'null'].map((name) => lines.includes(name)), [true, false, true]);
});
