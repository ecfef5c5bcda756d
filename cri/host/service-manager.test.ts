/** What sd_notify(3) asks of addresses and times; the messages themselves are tested end to end, on a socket of another program's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { notifyAddress, watchdogPlan } from './service-manager.ts';

const addresses: [string, string, string | undefined][] = [
  ['a path ends with a NUL', '/run/n', '0100' + Buffer.from('/run/n').toString('hex') + '00'],
  ['an abstract name begins with one and ends with the address', '@n', '0100' + '006e'],
  ['none', '', undefined],
  ['only the sign of an abstract name', '@', undefined],
  ['a relative path', 'run/n', undefined],
  ['a virtual machine\'s manager', 'vsock:2:1', undefined],
  ['longer than a socket\'s address', `/${'x'.repeat(107)}`, undefined],
];
for (const [name, socket, want] of addresses) test(`NOTIFY_SOCKET: ${name}`, () => assert.equal(notifyAddress(socket)?.toString('hex'), want));

const plans: [string, Record<string, string>, { everyMs: number; isWatched: boolean }][] = [
  ['half of what the manager allows', { WATCHDOG_USEC: '60000000', WATCHDOG_PID: '7' }, { everyMs: 30_000, isWatched: true }],
  ['of our process when none is named', { WATCHDOG_USEC: '2000000' }, { everyMs: 1000, isWatched: true }],
  ['of another process', { WATCHDOG_USEC: '60000000', WATCHDOG_PID: '8' }, { everyMs: 30_000, isWatched: false }],
  ['nobody watches', {}, { everyMs: 30_000, isWatched: false }],
  ['nonsense', { WATCHDOG_USEC: 'soon' }, { everyMs: 30_000, isWatched: false }],
];
for (const [name, env, want] of plans) test(`watchdog: ${name}`, () => assert.deepEqual(watchdogPlan(env, 7), want));
