/** Rates, cached walks and parsers of statistics. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { quietCtx } from '#host/log.ts';
import { CpuRates } from './cpu-rates.ts';
import { DiskUsage } from './disk-usage.ts';
import { memoryMessage, networkMessage, parseNetDev } from './messages.ts';

const second = 1_000_000_000n;

test('the first reading has no rate, later ones have that of the time between', () => {
  const rates = new CpuRates();
  assert.equal(rates.nanoCores('c', { usageNs: 0n, atNs: 0n }), undefined);
  assert.equal(rates.nanoCores('c', { usageNs: second, atNs: 4n * second }), 250_000_000n);
  assert.equal(rates.nanoCores('c', { usageNs: 3n * second, atNs: 4n * second + 1n }), 250_000_000n);
  assert.equal(rates.nanoCores('c', { usageNs: 3n * second, atNs: 6n * second }), second);
});

test('a counter that began anew has no rate at first', () => {
  const rates = new CpuRates();
  rates.nanoCores('c', { usageNs: 5n * second, atNs: 0n });
  assert.equal(rates.nanoCores('c', { usageNs: second, atNs: 2n * second }), undefined);
});

test('a tree is walked once for all who ask at the same time, and again only later', async () => {
  let nowMs = 0;
  let walks = 0;
  const disk = new DiskUsage(() => Promise.resolve({ usedBytes: (walks += 1), inodes: 1 }), () => nowMs);
  const ask = async (): Promise<number> => (await disk.of(quietCtx(), '/c')).usedBytes;
  assert.deepEqual(await Promise.all([ask(), ask()]), [1, 1]);
  nowMs = 9_999;
  assert.equal(await ask(), 1);
  nowMs = 10_000;
  assert.equal(await ask(), 2);
  disk.forget('/c');
  assert.equal(await ask(), 3);
});

test('available memory is what the limit leaves over the working set, and unknown without a limit', () => {
  const memory = {
    usageBytes: 50, workingSetBytes: 40, rssBytes: 30, cacheBytes: 0, mappedFileBytes: 0, activeFileBytes: 0, inactiveFileBytes: 0,
    pageFaults: 2, majorPageFaults: 1, ownPageFaults: 2, ownMajorPageFaults: 1, swap: undefined,
  };
  const numbers = { cpu: undefined, nanoCores: undefined, pressure: { cpu: undefined, memory: undefined, io: undefined } };
  assert.deepEqual(memoryMessage({ ...numbers, memory: { ...memory, limitBytes: 100 } }, 7n).availableBytes, { value: 60n });
  assert.deepEqual(memoryMessage({ ...numbers, memory: { ...memory, limitBytes: 30 } }, 7n).availableBytes, { value: 0n });
  assert.equal(memoryMessage({ ...numbers, memory: { ...memory, limitBytes: undefined } }, 7n).availableBytes, undefined);
});

test('the counters of each interface but lo are read', () => {
  const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
  eth0:9007199254740993 12 3 0 0 0 0 0 456 7 2 0 0 0 0 0
`;
  assert.deepEqual(parseNetDev(text), [
    { name: 'eth0', rxBytes: 9_007_199_254_740_993n, rxPackets: 12n, rxErrors: 3n, rxDropped: 0n, txBytes: 456n, txPackets: 7n, txErrors: 2n, txDropped: 0n },
  ]);
});

test('the interface that CNI made is the default one, also behind the tunnels that the kernel puts into every namespace', () => {
  const text = ['tunl0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0', 'eth0: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0', 'net1: 7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0'].join('\n');
  const message = networkMessage(parseNetDev(text), 9n);
  assert.equal(message?.defaultInterface?.name, 'eth0');
  assert.deepEqual(message.interfaces.map(({ name, txBytes }) => [name, txBytes?.value]), [['tunl0', 0n], ['net1', 8n]]);
  assert.equal(networkMessage([], 9n), undefined);
});
