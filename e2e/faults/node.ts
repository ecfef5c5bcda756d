/** A node every outside program of which is a double, and what must not be there when all its pods are gone. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { eventually } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet, type Nodelet, type NodeletOptions } from '../harness/nodelet.ts';
import { cgroupHierarchies, privateDir } from '../harness/private.ts';
import { testRegistry } from '../harness/registry.ts';
import { cniBinDir, needs, systemProgram } from '../harness/tools.ts';
import { containerConfig, Cri, idle, podConfig } from './cri.ts';
import { double, type Double } from './doubles/double.ts';

export const what = needs('root', 'bundle', 'cri', 'conmon', 'runc', 'catatonit');

export interface Node {
  readonly nodelet: Nodelet;
  readonly cri: Cri;
  readonly doubles: { readonly runc: Double; readonly conmon: Double; readonly bridge: Double; readonly portmap: Double };
  /** Log directory and cgroup of pods. */
  readonly place: { readonly logs: string; readonly cgroupParent: string };
  /** After a kill: starts the daemon again, and the doubles aim at the new one. */
  restart(): Promise<void>;
}

/** Runs `body` on a node that has the image; afterwards the machine must be as before. */
export async function withNode(body: (node: Node) => Promise<void>, options: Pick<NodeletOptions, 'config' | 'env' | 'ipMasq'> = {}): Promise<void> {
  await nothingLeft(async () => {
    const place = await privateDir('e2e-dbl');
    try {
      await using registry = await testRegistry();
      const plugins = path.join(place.dir, 'cni');
      await mkdir(plugins);
      const real = (name: string): string => path.join(cniBinDir(), name);
      const doubles = {
        runc: await double(place.dir, systemProgram('runc')), conmon: await double(place.dir, systemProgram('conmon')),
        bridge: await double(plugins, real('bridge')), portmap: await double(plugins, real('portmap')),
      };
      await double(plugins, real('host-local'));
      await using nodelet = await startNodelet({
        mode: 'cri', writeHosts: registry.writeHosts, ...options,
        config: { runtimes: [{ name: 'runc', path: doubles.runc.program }], conmon: doubles.conmon.program, ...options.config, cni: { binDirs: [plugins], ...(options.config?.['cni'] as object | undefined) } },
      });
      using cri = new Cri(nodelet.socket);
      const aim = async (): Promise<void> => { for (const each of Object.values(doubles)) await each.aim(nodelet.pid ?? 0); };
      await aim();
      await cri.pull();
      await body({
        nodelet, cri, doubles, place: { logs: nodelet.podLogsDir, cgroupParent: `${nodelet.cgroupRoot}/pods` },
        restart: async () => { await nodelet.start(); await aim(); },
      });
      for (const each of Object.values(doubles)) await each.mend();
    } finally { await place.remove(); }
  });
}

/** A pod with one running container. */
export async function runningPod({ cri, place }: Pick<Node, 'cri' | 'place'>, name: string, script = idle): Promise<{ pod: string; container: string }> {
  const config = podConfig(name, place);
  const pod = await cri.runPod(config);
  const container = await cri.create(pod, config, containerConfig(name, script));
  await cri.start(container);
  return { pod, container };
}

const namesIn = (dir: string): string[] => (existsSync(dir) ? readdirSync(dir) : []);

/** What pods have left: nothing, when all of them were removed. */
export function leftOfPods({ nodelet }: Pick<Node, 'nodelet'>): string[] {
  const { root, state, dir } = nodelet;
  const bridge = namesIn('/sys/class/net').find((name) => name.startsWith('nlt') && dir.toLowerCase().endsWith(name.slice(3)));
  return [
    ...['containers', 'sandboxes', 'cni/results'].flatMap((name) => namesIn(path.join(root, name)).map((each) => `${name}/${each}`)),
    ...['ns', 'conmon', 'exec', 'oci/runc', 'exits'].flatMap((name) => namesIn(path.join(state, name)).map((each) => `${name}/${each}`)),
    ...namesIn(path.join(dir, 'cni/ipam')).flatMap((network) => namesIn(path.join(dir, 'cni/ipam', network)).filter((name) => /^\d/.test(name)).map((address) => `address ${address}`)),
    ...(bridge === undefined ? [] : namesIn(`/sys/class/net/${bridge}/brif`).map((veth) => `interface ${veth}`)),
    ...cgroupHierarchies().flatMap((hierarchy) => namesIn(path.join(hierarchy, nodelet.cgroupRoot, 'pods')).filter((name) => /^[0-9a-f]{64}$/.test(name)).map((name) => `cgroup ${hierarchy}/${name}`)),
    ...readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' ')[4] ?? '').filter((point) => [`${root}/`, `${state}/`].some((above) => point.startsWith(above))).map((point) => `mount ${point}`),
    ...processesOf(dir),
  ];
}

/** Programs of this node besides the daemon: monitors, runtimes and plugins have its folders on their command line or in their environment. */
function processesOf(dir: string): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid).flatMap((pid) => {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
      return command.includes(`${dir}/`) && !command.includes('nodelet.js') ? [`process ${pid} ${command.slice(0, 200)}`] : [];
    } catch { return []; }
  });
}

/** Waits until nothing of any pod is left. */
export const podsAreGone = (node: Pick<Node, 'nodelet'>): Promise<unknown> => eventually('nothing of any pod is left', () => leftOfPods(node), (left) => left.length === 0, { withinMs: 20_000 });
