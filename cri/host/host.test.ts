/** The parts of the host that need no root: parsers, times, back-off, programs, atomic files. */
import assert from 'node:assert/strict';
import { closeSync, writeSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { cleanMappings, releaseMemory } from './memory.ts';
import { writeFileAtomic } from './atomic-file.ts';
import { BackOff } from './back-off.ts';
import { nowNs, rfc3339 } from './clock.ts';
import { CommandError, exitCodeOf, findProgram, run, runChecked, spawn } from './exec.ts';
import { explain, Fault } from './fault.ts';
import { pipe } from './libc.ts';
import { describeError, quietCtx } from './log.ts';
import { parseMountOptions, remountFlags } from './mount-flags.ts';
import { parseMountinfo } from './mountinfo.ts';
import { sysctlPath } from './namespaces.ts';
import { identify, isAlive, parseStat, signalProcess, whenGone } from './process.ts';
import { watchFd } from './reactor.ts';

test('mount words become flags, propagation and the data of the file system, and the later word wins', () => {
  assert.deepEqual(parseMountOptions(['nosuid', 'ro', 'rw', 'mode=1777', 'size=64m', 'rslave']), { flags: 2, propagation: (1 << 19) | 16_384, data: 'mode=1777,size=64m' });
  assert.equal(remountFlags(parseMountOptions(['rbind']).flags), 0);
  assert.equal(remountFlags(parseMountOptions(['rbind', 'ro']).flags), 1 | 32 | 4096);
});

test('mountinfo lines are read with their escapes and optional fields', () => {
  const line = '36 35 98:0 /mnt1 /mnt\\0402 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue\nnonsense\n';
  assert.deepEqual(parseMountinfo(line), [
    { id: 36, parentId: 35, root: '/mnt1', mountPoint: '/mnt 2', options: ['rw', 'noatime'], propagation: ['shared:1', 'master:2'], type: 'ext3', source: '/dev/root' },
  ]);
});

test('a command name with spaces and parentheses does not confuse the start time of a process', () => {
  const fields = `S 1 ${Array.from({ length: 17 }, () => '0').join(' ')} 4242 0`;
  assert.deepEqual(parseStat(`7 (a) b (c) ${fields}`), { state: 'S', parentPid: 1, startTicks: 4242 });
});

test('sysctl names are dotted or slashed as sysctl(8) has it', () => {
  assert.equal(sysctlPath('net.ipv4.ip_forward'), '/proc/sys/net/ipv4/ip_forward');
  assert.equal(sysctlPath('net.ipv4.conf.eth0/100.forwarding'), '/proc/sys/net/ipv4/conf/eth0.100/forwarding');
  assert.equal(sysctlPath('net/ipv4/conf/eth0.100/forwarding'), '/proc/sys/net/ipv4/conf/eth0.100/forwarding');
});

test('time has nanoseconds, goes on, and is written with nine digits', () => {
  assert.equal(rfc3339(1_700_000_000_000_000_007n), '2023-11-14T22:13:20.000000007Z');
  const first = nowNs();
  assert.ok(nowNs() > first);
  assert.ok(Math.abs(Number(nowNs() / 1_000_000n) - Date.now()) < 50);
});

test('delays double up to the cap, are forgotten after a quiet time, and keys do not meet', () => {
  const backOff = new BackOff<string>({ initialMs: 10, capMs: 35, resetAfterMs: 1000 });
  assert.deepEqual([0, 1, 2, 3].map((atMs) => backOff.next('a', atMs)), [10, 20, 35, 35]);
  assert.equal(backOff.next('b', 3), 10);
  assert.equal(backOff.delayLeftMs('a', 13), 25);
  assert.equal(backOff.delayLeftMs('a', 13, 10), 32);
  assert.equal(backOff.delayLeftMs('a', 2000), 0);
  assert.equal(backOff.next('a', 2000), 10);
  backOff.collect(10_000);
  assert.equal(backOff.delayMs('a', 10_000), 0);
});

test('an error is explained with its causes, each said once', () => {
  const cause = new Fault('internal', 'mount /x: EBUSY');
  assert.equal(explain(new Fault('internal', 'make rootfs', new Error('overlay', { cause }))), 'make rootfs: overlay: mount /x: EBUSY');
  assert.equal(explain(new Fault('internal', 'pull x: no such host', new Error('no such host'))), 'pull x: no such host');
});

test('words of a program that are too long for a message keep their beginning and their end', () => {
  const story = explain(new Fault('internal', 'runc create', new Error(`first ${'x'.repeat(1_000_000)} last`)));
  assert.ok(story.length < 5000, `${story.length} characters`);
  assert.match(story, /^runc create: first x+ … x+ last$/);
});

test('the log keeps the cause of an error and both halves of a failed clean-up', () => {
  const described = describeError(new SuppressedError(new Error('clean-up'), new Fault('timeout', 'work', new Error('why')))) as Record<string, Record<string, unknown>>;
  assert.equal(described['error']?.['message'], 'clean-up');
  assert.deepEqual([described['suppressed']?.['kind'], (described['suppressed']?.['cause'] as Record<string, unknown>)['message']], ['timeout', 'why']);
});

test('a program gets its input and arguments, and its output and exit status come back', async () => {
  const outcome = await run(quietCtx(), { path: '/bin/sh', args: ['-c', 'cat; echo "$0 $X" >&2; exit 3', 'zero'], env: { X: 'y' }, stdin: 'hello' });
  assert.deepEqual([outcome.exitCode, String(outcome.stdout), String(outcome.stderr)], [3, 'hello', 'zero y\n']);
});

test('a program that fails is an error with what it said', async () => {
  await assert.rejects(runChecked(quietCtx(), { path: '/bin/sh', args: ['-c', 'echo sorry >&2; exit 3'] }), (error) => {
    assert.ok(error instanceof CommandError);
    assert.match(error.message, /exit status 3: sorry/);
    return true;
  });
  await assert.rejects(run(quietCtx(), { path: '/no/such', args: [] }), { code: 'ENOENT' });
});

test('more output than the limit is dropped, and the program still ends', async () => {
  const outcome = await run(quietCtx(), { path: '/bin/sh', args: ['-c', 'head -c 3000000 /dev/zero'], outputLimitBytes: 1000 });
  assert.deepEqual([outcome.exitCode, outcome.stdout.length], [0, 1000]);
});

test('a program that is given up is killed with its children, and its end awaited', async () => {
  const timeout = { ...quietCtx(), signal: AbortSignal.timeout(300) };
  await assert.rejects(run(timeout, { path: '/bin/sh', args: ['-c', 'sleep 1000 & echo $! ; wait'] }), { kind: 'timeout' });
});

test('a child that is killed has 128 and the number of the signal as exit status', async () => {
  assert.equal(exitCodeOf(9), 137);
  const child = spawn({ path: '/bin/sleep', args: ['1000'] });
  assert.deepEqual(identify(child.process.pid), child.process);
  assert.equal(isAlive(child.process), true);
  assert.equal(signalProcess({ ...child.process, startTicks: child.process.startTicks + 1 }, 'SIGKILL'), false);
  const gone = whenGone(quietCtx(), child.process);
  assert.equal(signalProcess(child.process, 'SIGTERM'), true);
  assert.equal(await child.exited, 143);
  await gone;
  assert.equal(isAlive(child.process), false);
  assert.equal(signalProcess(child.process, 'SIGTERM'), false);
});

test('programs are found in the usual directories, or not at all', async () => {
  assert.match((await findProgram('sh')) ?? '', /\/sh$/);
  assert.equal(await findProgram('no-such-program-here'), undefined);
});

test('a file is replaced as a whole, private by default, with nothing left beside it', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-atomic-'));
  t.after(() => rm(dir, { recursive: true }));
  await writeFileAtomic(join(dir, 'f'), 'one');
  await writeFileAtomic(join(dir, 'f'), 'two', { durable: true });
  assert.equal(await readFile(join(dir, 'f'), 'utf8'), 'two');
  assert.equal((await stat(join(dir, 'f'))).mode & 0o777, 0o600);
  await assert.rejects(writeFileAtomic(join(dir, 'no', 'f'), 'x'), { code: 'ENOENT' });
  assert.deepEqual(await readdir(dir), ['f']);
});

test('only clean mappings of the program itself are found in a map of memory', () => {
  const mapping = (head: string, dirtyKb: number): string => `${head}\nRss:  8 kB\nPrivate_Dirty:         ${dirtyKb} kB\nAnonymous:             ${dirtyKb} kB\n`;
  const smaps = [
    mapping('00400000-00c00000 r--p 00000000 08:01 12                         /n/node', 0),
    mapping('00c00000-02d00000 r-xp 00800000 08:01 12                         /n/node', 0),
    mapping('02d00000-02e00000 r--p 02800000 08:01 12                         /n/node', 24),
    mapping('02e00000-02f00000 rw-p 02900000 08:01 12                         /n/node', 0),
    mapping('7f00a000-7f00b000 r-xp 00000000 08:01 13 /lib/libc.so.6', 0),
    mapping('7f00c000-7f00d000 rwxp 00000000 00:00 0 ', 0),
  ].join('');
  assert.deepEqual(cleanMappings(smaps, '/n/node'), [{ from: 0x400000n, to: 0xc00000n }, { from: 0xc00000n, to: 0x2d00000n }]);
});

test('memory is released without a word, and the program goes on', async () => {
  await releaseMemory();
  assert.equal([1, 2, 3].map((n) => n * 2).join(), '2,4,6');
});

test('who watches a descriptor hears nothing of the one that had its number a moment ago', async (t) => {
  const first = pipe();
  const unwatchFirst = watchFd(first.readFd, () => undefined);
  writeSync(first.writeFd, 'x');
  // The waiting thread sees the event meanwhile, and tells it to a main thread that is busy.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  unwatchFirst();
  closeSync(first.readFd);
  const second = pipe();
  assert.equal(second.readFd, first.readFd);
  const heard: number[] = [];
  const unwatch = watchFd(second.readFd, (events) => void heard.push(events));
  t.after(() => {
    unwatch();
    for (const fd of [first.writeFd, second.readFd, second.writeFd]) closeSync(fd);
  });
  for (let turn = 0; turn < 10; turn += 1) await setImmediate();
  assert.deepEqual(heard, []);
  writeSync(second.writeFd, 'y');
  while (heard.length === 0) await setImmediate();
});
