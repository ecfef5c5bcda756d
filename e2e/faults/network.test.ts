/** CNI plugins that hang, fail half way, leave what they made, or cannot undo it: the pod comes whole or not at all, and goes in any case. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { status as Code } from '@grpc/grpc-js';
import { type PodSandboxConfig, PodSandboxState, Protocol } from '#cri-api';
import { eventually } from '../harness/eventually.ts';
import { freePorts } from '../harness/private.ts';
import { podConfig } from './cri.ts';
import { faults } from './doubles/double.ts';
import { leftOfPods, type Node, podsAreGone, what, withNode } from './node.ts';

/** Numbers of the calls of the two plugins, by verb. */
const verbs = async ({ doubles }: Node): Promise<{ bridge: string; portmap: string }> => {
  const of = async (which: 'bridge' | 'portmap'): Promise<string> => (await doubles[which].calls()).filter((verb) => verb === 'ADD' || verb === 'DEL').join(' ');
  return { bridge: await of('bridge'), portmap: await of('portmap') };
};
const addresses = (node: Node): string[] => leftOfPods(node).filter((each) => each.startsWith('address '));

/** Each: plugin, when ADD goes wrong and how, what the caller is told. The bridge comes first in the chain, portmap second. */
const failures = [
  { name: 'the first plugin hangs', plugin: 'bridge', when: 'before', snippet: faults.hang, told: /plugin type="bridge" failed \(add\): did not finish in time and was killed/ },
  { name: 'the second plugin hangs when the first has attached the pod', plugin: 'portmap', when: 'before', snippet: faults.hang, told: /plugin type="portmap" failed \(add\): did not finish in time/ },
  { name: 'the first plugin fails and leaves its interface and address', plugin: 'bridge', when: 'after', snippet: faults.refuseCni, told: /"bridge" failed \(add\): / },
  { name: 'the second plugin fails', plugin: 'portmap', when: 'before', snippet: faults.refuseCni, told: /"portmap" failed \(add\): the double refuses/ },
  { name: 'the second plugin says nothing and ends with 0', plugin: 'portmap', when: 'before', snippet: 'exit 0', told: /"portmap" failed \(add\): / },
  { name: 'the second plugin talks without end', plugin: 'portmap', when: 'before', snippet: 'head -c 3000000 /dev/zero; exit 1', told: /"portmap" failed \(add\): it printed more than/ },
  { name: 'the second plugin is killed', plugin: 'portmap', when: 'before', snippet: 'kill -9 $$', told: /"portmap" failed \(add\): it was ended by signal 9/ },
] as const;

test('an ADD that hangs or fails leaves no sandbox: everything that was begun is undone, with its descendants, and the name can be used again', what, () =>
  withNode(async (node) => {
    const { cri, doubles } = node;
    // A port, so that portmap has work to do.
    const [hostPort = 0] = await freePorts(1);
    for (const failure of failures) {
      const config: PodSandboxConfig = { ...podConfig('fails', node.place), portMappings: [{ protocol: Protocol.TCP, containerPort: 80, hostPort, hostIp: '' }] };
      const before = await verbs(node);
      await doubles[failure.plugin].fault('ADD', failure.when, failure.snippet);
      await assert.rejects(cri.runPod(config), (error: { code: number; details: string }) => {
        assert.match(error.details, failure.told, failure.name);
        return true;
      });
      const after = await verbs(node);
      assert.match(after.bridge.slice(before.bridge.length), /ADD DEL$/, `${failure.name}: the first plugin is asked to undo`);
      assert.match(after.portmap.slice(before.portmap.length), /DEL$/, `${failure.name}: the second plugin is asked to undo`);
      await podsAreGone(node);
      await doubles[failure.plugin].mend();
      await cri.removePod(await cri.runPod(config));
    }
    await podsAreGone(node);
  }, { config: { cni: { timeout: '2s' } } }));

test('a DEL that fails or hangs does not keep the pod, and its address is collected when the plugin works again', what, () =>
  withNode(async (node) => {
    const { cri, doubles, nodelet } = node;
    for (const snippet of [faults.refuseCni, faults.hang]) {
      const pod = await cri.runPod(podConfig('stuck', node.place));
      await doubles.bridge.fault('DEL', 'before', snippet);
      await cri.stopPod(pod);
      assert.equal(await cri.podState(pod), PodSandboxState.SANDBOX_NOTREADY);
      await cri.removePod(pod);
      assert.deepEqual(await cri.pods(), []);
      assert.equal(addresses(node).length, 1, 'the address is not forgotten');
      await nodelet.kill();
      await node.restart();
      assert.equal(addresses(node).length, 1, 'a start does not wait for a plugin that still fails');
      await doubles.bridge.mend();
      await nodelet.stop();
      await node.restart();
      await podsAreGone(node);
    }
  }, { config: { cni: { timeout: '2s' } } }));

test('a pod is detached by the configuration that it was attached with, whatever became of that', what, () =>
  withNode(async (node) => {
    const { cri, nodelet } = node;
    const confDir = path.join(nodelet.dir, 'cni/net.d');
    const [name = ''] = await readdir(confDir);
    const file = path.join(confDir, name);
    const text = await readFile(file, 'utf8');
    const pods = [await cri.runPod(podConfig('one', node.place)), await cri.runPod(podConfig('two', node.place))];
    assert.equal(addresses(node).length, 2);
    const condition = async (): Promise<boolean> => (await cri.call('status', { verbose: false })).status?.conditions.find(({ type }) => type === 'NetworkReady')?.status === true;
    await rm(file);
    await eventually('the network is not ready', async () => !(await condition()));
    await cri.removePod(pods[0] ?? '');
    assert.equal(addresses(node).length, 1);
    await assert.rejects(cri.runPod(podConfig('three', node.place)), { code: Code.UNAVAILABLE });
    const other = JSON.parse(text) as { name: string; plugins: { type: string; ipam?: { dataDir: string } }[] };
    await writeFile(file, JSON.stringify({ ...other, name: 'another', plugins: other.plugins.slice(0, 1).map((plugin) => ({ ...plugin, ipam: { ...plugin.ipam, dataDir: `${nodelet.dir}/cni/other` } })) }));
    await eventually('the other network is ready', condition);
    await nodelet.kill();
    await node.restart();
    await cri.removePod(pods[1] ?? '');
    assert.equal(existsSync(`${nodelet.dir}/cni/other`), false, 'nothing was asked of the new one');
    await podsAreGone(node);
  }));
