/** The program, and the only place that knows both its halves: what ties them together, and what can be typed. A half's code is imported when it is used. */
import { runCommandLine } from '#host/daemon/command-line.ts';
import { configCommand, daemonCommand, wipeCommand } from '#host/daemon/commands.ts';
import type { Program, Tie } from '#host/daemon/program.ts';
import { ownVersion } from '#host/version.ts';
import { agent } from './agent/half.ts';
import { checkCommand, imageCommand, versionCommand } from './cri/command/commands.ts';
import { cri } from './cri/half.ts';

/** Where pods live on a node that no cluster has given a range. */
const standalonePodCidr = '10.86.0.0/24';
const withText = (follow: (value: string) => unknown) => (value: unknown): unknown => (typeof value === 'string' ? follow(value) : undefined);
const ties: readonly Tie[] = [
  { from: 'cri.stateDir', to: 'cri.socket', follow: withText((dir) => `${dir}/cri.sock`) },
  { from: 'cri.socket', to: 'agent.containerRuntimeEndpoint', follow: withText((path) => `unix://${path}`) },
  { from: 'cri.rootDir', to: 'agent.root', follow: withText((dir) => dir) },
  { from: 'agent.kubeconfig', to: 'cri.cni.podCidrs', isForWholeNode: true, follow: (file) => (file === undefined ? [standalonePodCidr] : undefined) },
];

const hints = `At night
  Something is wrong      nodelet check; then crictl --runtime-endpoint unix:///run/nodelet/cri.sock info, and the log: journalctl -u nodelet
  What runs?              crictl --runtime-endpoint unix:///run/nodelet/cri.sock pods (and: ps -a, logs ID, inspect ID)
  Is it really gone?      nodelet wipe, after stopping nodelet; it may be repeated
Exit status: 0 done · 1 failed · 2 wrong flags or configuration, with a line that names file, line and key.
`;

export const program: Program = {
  about: 'nodelet turns this Linux host into a Kubernetes node.',
  hints,
  version: ownVersion(),
  // The CRI server first: the agent works on it, and a wipe ends the containers before it takes their pods away.
  halves: [cri, agent],
  ties,
  commands: [
    daemonCommand('run', 'the whole node, CRI server and agent in one process', [cri, agent]),
    daemonCommand('cri', 'only the CRI server, for a kubelet, crictl or `nodelet agent`', [cri]),
    daemonCommand('agent', 'only the agent, on any CRI server', [agent]),
    checkCommand((settings) => settings.of(agent).nodeName),
    configCommand,
    imageCommand,
    wipeCommand,
    versionCommand,
  ],
};

if (process.argv[1] !== undefined && /^nodelet\.(ts|js)$/.test(process.argv[1].split('/').at(-1) ?? '')) {
  void runCommandLine(program, process.argv.slice(2)).then((status) => process.exit(status));
}
