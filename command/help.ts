/** What `nodelet help` and `nodelet COMMAND --help` print. */
import { logLevels } from '#host/log.ts';

const shared = `Flags
  --config FILE       configuration (default /etc/nodelet/config.yaml, which may be missing); drop-ins beside it: FILE's name with .d for .yaml
  --root DIR          what survives a reboot: images, layers, records (default /var/lib/nodelet)
  --state DIR         what does not: sockets, namespaces (default /run/nodelet)
  --log-level LEVEL   ${logLevels.join(', ')}
A flag wins over the configuration.
`;
const daemon = `  --socket PATH       the CRI socket (default DIR of --state + /cri.sock)
`;
const signals = `Signals
  SIGTERM, Ctrl-C     stops nodelet; containers keep running, and the next start finds them again
  SIGHUP              reads the configuration again, as a change of its files does; what is wrong changes nothing and is said in the log
`;

const overview = `nodelet turns this Linux host into a Kubernetes node.

  nodelet run                 the whole node: CRI server and agent in one process
  nodelet cri                 only the CRI server, for a kubelet, crictl or \`nodelet agent\`
  nodelet agent               only the agent, on any CRI server
  nodelet check               is this machine fit for it, and what to do where it is not
  nodelet config check [FILE] read the configuration and say everything that is wrong with it
  nodelet config default      print every configuration key with its default
  nodelet config show         print what holds, and where each value was said
  nodelet image ls            the images on this node
  nodelet image import PATH…  load OCI layouts or docker archives (tar or directory)
  nodelet image rm IMAGE…     remove images by name or id
  nodelet wipe                remove everything nodelet made on this machine
  nodelet version
  nodelet help [COMMAND]      or nodelet COMMAND --help

${shared}
At night
  Something is wrong      nodelet check; then crictl --runtime-endpoint unix:///run/nodelet/cri.sock info, and the log: journalctl -u nodelet
  What runs?              crictl --runtime-endpoint unix:///run/nodelet/cri.sock pods (and: ps -a, logs ID, inspect ID)
  Is it really gone?      nodelet wipe, after stopping nodelet; it may be repeated
Exit status: 0 done · 1 failed · 2 wrong flags or configuration, with a line that names file, line and key.
`;

const help: Readonly<Record<string, string>> = {
  run: `nodelet run: the whole node, CRI server and agent in one process, until it is told to stop.

  --kubeconfig FILE   join the cluster that this kubeconfig names
  --pods PATH         run the pods in this directory or file; without --kubeconfig: a standalone node
  --node-name NAME    name of the Node (default: the host name)
${daemon}
${shared}
${signals}`,
  cri: `nodelet cri: only the CRI server, for a kubelet (--container-runtime-endpoint), crictl or \`nodelet agent\`, until it is told to stop.

${daemon}
${shared}
${signals}`,
  agent: `nodelet agent: only the agent, on any CRI server, until it is told to stop.

  --kubeconfig FILE   join the cluster that this kubeconfig names
  --pods PATH         run the pods in this directory or file; without --kubeconfig: a standalone node
  --node-name NAME    name of the Node (default: the host name)
  --socket PATH       the CRI server's socket
${shared}
${signals}`,
  check: `nodelet check: looks at this machine and says what is missing and how to get it. Changes nothing but a scratch directory that it removes.

  --json              the same for programs

Each line is "ok", "note" (worth knowing), "warn" (something will not work as well, or not for some pods) or "FAIL" (nodelet will not work).
Exit status: 0 nothing fails · 1 something does · 2 wrong flags or configuration.

${shared}`,
  config: `nodelet config check [FILE]: reads FILE (or what --config says) with its drop-ins and names everything that is wrong: file, line, key, what is allowed.
nodelet config default: prints every key with its default, as a file that \`config check\` accepts.
nodelet config show: prints what holds, with the file and line (or flag) that said it.

Drop-ins are the files *.yaml of the directory that has the file's name with .d for .yaml, in the order of their names. What is said later wins: mappings
key by key, lists as a whole.

${shared}`,
  image: `nodelet image ls: the images on this node.
nodelet image import PATH…: loads OCI layouts or docker archives (tar or directory). --name NAME for one that has no name.
nodelet image rm IMAGE…: removes images by name or id. Containers that run keep what they need.

They work beside a running nodelet, which notices what changed.

${shared}`,
  wipe: `nodelet wipe: removes everything nodelet made on this machine: containers, mounts, networks, cgroups, images, directories. Other programs' things stay.

Stop nodelet first: while it runs, wipe refuses. It may be repeated, and goes on where an interrupted one ended.

${shared}`,
  version: `nodelet version: of nodelet, of the Node it runs on, and of the programs it uses.

${shared}`,
};

/** Of one command, or of all; undefined for a command that is none. */
export const helpText = (command?: string): string | undefined => (command === undefined || command === 'help' ? overview : help[command]);
