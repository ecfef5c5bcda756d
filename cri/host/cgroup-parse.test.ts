/** What the kernel writes and what we write, without a kernel. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ownProcsFile } from './cgroup-moves.ts';
import { cgroupPathParts, expandSlice, hugepageSize, parseBlkio, parseCgroupMounts, parseFlatKeyed, parseIoStat, parseLimit, parsePids, parsePressure, weightOfShares } from './cgroup-parse.ts';
import { settingsV1, settingsV2 } from './cgroup-settings.ts';
import { isFault } from './fault.ts';

// Captured: a hybrid microVM with kernel 6.18 (2026-11), shortened; Debian 12 in user-mode-linux 6.1; Ubuntu 18.04's combined mounts as runc's tests show them.
const HYBRID = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`;
const UNIFIED = '24 19 0:21 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n';
const COMBINED = `33 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct
90 80 0:28 /docker/abc /var/lib/my\\040mounts/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
26 25 0:22 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,release_agent=/lib/systemd/systemd-cgroups-agent,name=systemd
`;

test('controllers and the v2 tree are found in mountinfo; of two mounts the shorter path is taken', () => {
  assert.deepEqual(parseCgroupMounts(HYBRID), {
    v1: new Map([['cpu', '/sys/fs/cgroup/cpu'], ['memory', '/sys/fs/cgroup/memory'], ['name=systemd', '/sys/fs/cgroup/systemd']]),
    unified: '/sys/fs/cgroup/unified',
  });
  assert.deepEqual(parseCgroupMounts(UNIFIED), { v1: new Map(), unified: '/sys/fs/cgroup' });
  const { v1 } = parseCgroupMounts(COMBINED);
  assert.deepEqual([...v1], [['cpu', '/sys/fs/cgroup/cpu,cpuacct'], ['cpuacct', '/sys/fs/cgroup/cpu,cpuacct'], ['name=systemd', '/sys/fs/cgroup/systemd']]);
  assert.equal(parseCgroupMounts('9 1 0:2 / /a\\040b rw - cgroup2 none rw').unified, '/a b');
});

test('a path that could lead out of its hierarchy, or to its root, is refused', () => {
  assert.deepEqual(cgroupPathParts('/kubepods/burstable/pod1'), ['kubepods', 'burstable', 'pod1']);
  for (const path of ['', '/', 'kubepods', '/a/../b', '/..', '/a//b', '/a/', '/./a', '/a\0b', `/${'x'.repeat(256)}`]) {
    assert.throws(() => cgroupPathParts(path), (error) => isFault(error, 'invalid'), JSON.stringify(path));
  }
});

test('a slice lies in the slices that its name spells', () => {
  assert.equal(expandSlice('kubepods-burstable-pod1_2.slice'), '/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice');
  assert.equal(expandSlice('system.slice'), '/system.slice');
  assert.equal(expandSlice('-.slice'), '/');
  for (const slice of ['a', '.slice', 'a--b.slice', '-a.slice', 'a-.slice', 'a/b.slice']) assert.throws(() => expandSlice(slice), (error) => isFault(error, 'invalid'), slice);
});

test('shares become weights by the formula of current OCI runtimes', () => {
  // Pairs published in opencontainers/cgroups pull 20 and observed with runc 1.5.2.
  for (const [shares, weight] of [[2, 1], [102, 17], [256, 35], [512, 59], [1024, 100], [2048, 174], [4096, 303], [8192, 532], [262_144, 10_000]] as const) {
    assert.equal(weightOfShares(shares), weight, `${shares} shares`);
  }
});

test('limits: numbers, and both kernels\' ways to say none', () => {
  for (const [text, want] of [['1048576\n', 1_048_576], ['0\n', 0], ['max\n', undefined], ['-1\n', undefined], ['9223372036854771712\n', undefined], ['', undefined]] as const) {
    assert.equal(parseLimit(text), want, JSON.stringify(text));
  }
});

test('lists of processes leave out those of other pid namespaces', () => assert.deepEqual(parsePids('12\n0\n7\n'), [12, 7]));

test('keyed files', () => {
  const stat = parseFlatKeyed('usage_usec 130000\nuser_usec 130000\nsystem_usec 0\n');
  assert.deepEqual([...stat], [['usage_usec', 130_000], ['user_usec', 130_000], ['system_usec', 0]]);
});

test('io is told per device', () => {
  const v2 = '98:0 rbytes=4096 wbytes=3145728 rios=1 wios=27 dbytes=0 dios=0\n254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=9 dios=9\n8:16 \n';
  assert.deepEqual(parseIoStat(v2), [
    { device: '98:0', readBytes: 4096, writeBytes: 3_145_728, reads: 1, writes: 27 },
    { device: '254:0', readBytes: 1, writeBytes: 2, reads: 3, writes: 4 },
  ]);
  const bytes = '254:0 Read 4096\n254:0 Write 10\n254:0 Sync 4106\n254:0 Total 4106\n7:0 Read 4\n7:0 Write 0\nTotal 4110\n';
  const operations = '254:0 Read 1\n254:0 Write 2\n254:0 Total 3\nTotal 3\n';
  assert.deepEqual(parseBlkio(bytes, operations), [
    { device: '254:0', readBytes: 4096, writeBytes: 10, reads: 1, writes: 2 },
    { device: '7:0', readBytes: 4, writeBytes: 0, reads: 0, writes: 0 },
  ]);
  assert.deepEqual(parseBlkio('Total 0\n', 'Total 0\n'), []);
});

test('sizes of huge pages are spelled as the hugetlb controller does', () => {
  assert.deepEqual(['hugepages-64kB', 'hugepages-2048kB', 'hugepages-1048576kB', 'other'].map(hugepageSize), ['64KB', '2MB', '1GB', undefined]);
});

test('pressure, with and without the full line', () => {
  const some = 'some avg10=1.03 avg60=2.73 avg300=10.86 total=637048903\n';
  const want = { avg10: 1.03, avg60: 2.73, avg300: 10.86, totalUs: 637_048_903n };
  assert.deepEqual(parsePressure(some), { some: want, full: undefined });
  assert.deepEqual(parsePressure(`${some}full avg10=0.00 avg60=0.00 avg300=0.00 total=2334\n`)?.full, { avg10: 0, avg60: 0, avg300: 0, totalUs: 2334n });
  assert.equal(parsePressure(''), undefined);
});

test('resources become the files of v1 and v2', () => {
  const written = (settings: readonly { file: string; value: string }[]): string[] => settings.map(({ file, value }) => `${file}=${value}`);
  const wanted = {
    cpuShares: 512, cpuQuotaUs: 20_000, cpuPeriodUs: 100_000, cpusetCpus: '0-1', memoryLimitBytes: 100, memorySwapLimitBytes: 150, pidsLimit: -1, hugepages: { '2MB': 0 },
  };
  assert.deepEqual(written(settingsV1(wanted)), [
    'cpu.shares=512', 'cpu.cfs_period_us=100000', 'cpu.cfs_quota_us=20000', 'cpuset.cpus=0-1',
    'memory.limit_in_bytes=100', 'memory.memsw.limit_in_bytes=150', 'pids.max=max', 'hugetlb.2MB.limit_in_bytes=0',
  ]);
  assert.deepEqual(written(settingsV2({ ...wanted, unified: { 'memory.high': '90', 'io.bfq.weight': '3' } })), [
    'cpu.weight=59', 'cpu.max=20000 100000', 'cpuset.cpus=0-1', 'memory.swap.max=50', 'memory.max=100', 'pids.max=max', 'hugetlb.2MB.max=0', 'memory.high=90', 'io.bfq.weight=3',
  ]);
  assert.deepEqual(written(settingsV2({ cpuQuotaUs: -1, memoryLimitBytes: -1, memorySwapLimitBytes: -1 })), ['cpu.max=max', 'memory.swap.max=max', 'memory.max=max']);
  const unset = { cpuShares: 0, cpuQuotaUs: 0, cpuPeriodUs: 100_000, memoryLimitBytes: 0, pidsLimit: 0, cpusetCpus: '' };
  assert.deepEqual([...settingsV1(unset), ...settingsV2(unset)], [], 'zero and empty mean unset in the CRI');
});

test('resources that make no sense are refused before anything is written', () => {
  const invalid = (make: () => unknown, part: string): void => assert.throws(make, (error) => isFault(error, 'invalid') && error.message.includes(part));
  invalid(() => settingsV1({ unified: { 'memory.high': '1' } }), 'v2');
  for (const key of ['../memory.high', 'memory', 'a/b.c', '.x', 'memory..high']) invalid(() => settingsV2({ unified: { [key]: '1' } }), key);
  invalid(() => settingsV2({ memorySwapLimitBytes: 10 }), 'memory limit');
  invalid(() => settingsV2({ memoryLimitBytes: 20, memorySwapLimitBytes: 10 }), 'below');
});

test('our own group is found in whichever hierarchy is mounted', () => {
  const v1 = '30 29 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n';
  const v2 = '31 29 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n';
  assert.equal(ownProcsFile(parseCgroupMounts(v2), '0::/system.slice/nodelet.service\n'), '/sys/fs/cgroup/system.slice/nodelet.service/cgroup.procs');
  assert.equal(ownProcsFile(parseCgroupMounts(v1), '8:pids:/a\n0::/b\n'), '/sys/fs/cgroup/pids/a/cgroup.procs');
  assert.equal(ownProcsFile(parseCgroupMounts(v1), '3:memory:/a\n'), undefined);
});
