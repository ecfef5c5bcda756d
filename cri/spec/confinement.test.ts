/** AppArmor profiles and SELinux labels: this machine may have neither, so it is the decisions that are tested. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DeepPartial, LinuxContainerSecurityContext, SecurityProfile_ProfileType as Type, SELinuxOption } from '#cri-api';
import { appArmorChoice, appArmorProfile, defaultProfileText, isLoadedProfile } from './apparmor.ts';
import { assertMayRelabel, podLevel, selinuxLabels } from './selinux.ts';

const context = (fields: DeepPartial<LinuxContainerSecurityContext>): LinuxContainerSecurityContext => LinuxContainerSecurityContext.fromPartial(fields);
const localhost = (localhostRef: string): DeepPartial<LinuxContainerSecurityContext> => ({ apparmor: { profileType: Type.Localhost, localhostRef } });

const profiles: [string, DeepPartial<LinuxContainerSecurityContext>, string | undefined][] = [
  ['silence', {}, 'nodelet-default'],
  ['RuntimeDefault', { apparmor: { profileType: Type.RuntimeDefault } }, 'nodelet-default'],
  ['Unconfined', { apparmor: { profileType: Type.Unconfined } }, undefined],
  ['Localhost', localhost('mine'), 'mine'],
  ['Localhost with the prefix', localhost('localhost/mine'), 'mine'],
  ['the old runtime/default', { apparmorProfile: 'runtime/default' }, 'nodelet-default'],
  ['the old unconfined', { apparmorProfile: 'unconfined' }, undefined],
  ['the old localhost', { apparmorProfile: 'localhost/old' }, 'old'],
  ['the new field beside the old', { ...localhost('new'), apparmorProfile: 'localhost/old' }, 'new'],
  ['a privileged container', { privileged: true, ...localhost('mine') }, undefined],
];
for (const [what, fields, profile] of profiles) {
  test(`AppArmor: ${what} means ${profile ?? 'none'}`, () => assert.equal(appArmorProfile(appArmorChoice(context(fields)), { enabled: true, defaultProfile: 'nodelet-default' }), profile));
}

test('AppArmor: a host without it gives no default and refuses what is named', () => {
  assert.equal(appArmorProfile(appArmorChoice(undefined), { enabled: false }), undefined);
  assert.equal(appArmorProfile(appArmorChoice(context({ apparmorProfile: 'unconfined' })), { enabled: false }), undefined);
  assert.throws(() => appArmorProfile(appArmorChoice(context(localhost('mine'))), { enabled: false }), { kind: 'invalid', message: /mine: AppArmor is not supported/ });
  for (const wrong of [{ apparmorProfile: 'mine' }, { apparmorProfile: 'localhost/' }, localhost('')]) assert.throws(() => appArmorChoice(context(wrong)), { kind: 'invalid' });
});

test('AppArmor: a profile is loaded when the kernel lists it in any mode, whole name', () => {
  const listed = 'cri-validate (enforce)\nmine (complain)\n/usr/bin/man (enforce)\n';
  assert.deepEqual(['mine', 'cri-validate', '/usr/bin/man', 'min', 'cri', ''].map((name) => isLoadedProfile(listed, name)), [true, true, true, false, false, false]);
});

test('AppArmor: the default profile lets the daemon and the runtimes send signals, and no mounts', () => {
  const text = defaultProfileText('nodelet-daemon');
  for (const rule of ['profile nodelet-default ', 'signal (receive) peer=nodelet-daemon,', 'signal (receive) peer=runc,', 'deny mount,']) assert.ok(text.includes(rule), rule);
});

const on = { enabled: true, level: 's0:c1,c2' };
const labels: [string, DeepPartial<LinuxContainerSecurityContext> | undefined, [string, string] | undefined][] = [
  ['the pod’s level and the usual types', {}, ['system_u:system_r:container_t:s0:c1,c2', 'system_u:object_r:container_file_t:s0:c1,c2']],
  ['silence', undefined, ['system_u:system_r:container_t:s0:c1,c2', 'system_u:object_r:container_file_t:s0:c1,c2']],
  ['what it asks for', { selinuxOptions: { user: 'u', role: 'r', type: 't_t', level: 's0:c7,c9' } }, ['u:r:t_t:s0:c7,c9', 'system_u:object_r:container_file_t:s0:c7,c9']],
  ['a type alone', { selinuxOptions: { type: 'spc_t' } }, ['system_u:system_r:spc_t:s0:c1,c2', 'system_u:object_r:container_file_t:s0:c1,c2']],
  ['privileged', { privileged: true }, undefined],
];
for (const [what, fields, wanted] of labels) {
  test(`SELinux: the labels of ${what}`, () => {
    const found = selinuxLabels(fields && context(fields), on);
    assert.deepEqual(found && [found.process, found.mount], wanted);
  });
}

test('SELinux: a host without it has no labels', () => assert.equal(selinuxLabels(context({ selinuxOptions: { type: 't_t' } }), { enabled: false, level: 's0' }), undefined));

test('SELinux: a pod gets two categories that no other has, or the level it asks for', () => {
  const numbers = [5, 5, 9, 3, 3, 9, 1023, 0].map((category) => category / 1024);
  assert.equal(podLevel(undefined, new Set(['s0:c3,c9']), () => numbers.shift() ?? 0), 's0:c0,c1023');
  assert.equal(podLevel({ ...SELinuxOption.create(), level: 's0:c1' }, new Set(['s0:c1']), () => 0), 's0:c1');
});

test("SELinux: the host's own directories are not relabelled", () => {
  assertMayRelabel('/var/lib/kubelet/pods/x/volumes/v');
  for (const path of ['/', '/etc', '/usr', '/var/lib']) assert.throws(() => assertMayRelabel(path), { kind: 'invalid', message: /would break the host/ });
});
