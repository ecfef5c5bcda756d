/** The command line of the benchmark. Pure. */
import { parseArgs } from 'node:util';

const parts = ['life', 'pods', 'memory', 'lists', 'pull', 'standing', 'churn'] as const;
export type Part = (typeof parts)[number];

export interface Options {
  readonly nodelet: boolean;
  readonly best: boolean;
  readonly containerd: boolean;
  readonly floor: boolean;
  readonly delay: boolean;
  readonly sockets: readonly { readonly name: string; readonly socket: string }[];
  readonly runtime: 'runc' | 'crun';
  readonly rounds: number;
  readonly pods: readonly number[];
  readonly repeats: number;
  readonly only: readonly Part[];
  readonly hostNetwork: boolean;
  readonly seccomp: 'unconfined' | 'default';
  readonly ipMasq: boolean;
  readonly image: string | undefined;
  readonly json: string | undefined;
  readonly markdown: boolean;
  readonly help: boolean;
}

export const usage = `Measures CRI servers side by side, taking turns, and prints medians (p10..p90) and ratios. Needs root.

  npm run bench                                  nodelet (dist/nodelet.js) alone
  npm run bench -- --against containerd          and containerd 2.4, with the same runtime and CNI plugins
  npm run bench -- --against containerd --floor  and what conmon, the runtime and CNI take with nobody around them
  npm run bench -- --only pull                   only some of: ${parts.join(', ')}

  --against NAME        containerd, started on private folders and stopped afterwards
  --socket NAME=PATH    a CRI server that runs already (repeatable); it keeps everything it had; needs --image
  --no-nodelet          without ours
  --best                and nodelet once more, with the OCI runtime that it chooses itself
  --floor               the programs alone
  --delay               print how late our event loop was at most in each part
  --runtime runc|crun   default runc
  --rounds N            rounds of the single calls (default 30)
  --pods N,N            how many pods at a time in parallel, ten in flight (default 10,50)
  --repeats N           rounds of the parallel part and of pulls (default 3)
  --only PART,PART      ${parts.join(', ')} (default: the first four)
                        standing: restart and idle processor time with 100 pods; churn: 1000 pods come and go
  --host-network        pods without a network of their own
  --seccomp WHICH       unconfined (default) or default (RuntimeDefault)
  --ip-masq             let the bridge plugin masquerade per pod (nodelet does that once per node)
  --image REF           image with /bin/sleep and /bin/true, present or pullable (default: busybox of the test images)
  --json FILE           every sample, as JSON; - for stdout
  --markdown            print the table for README.md
Everything that was started is stopped and removed at the end, also on Ctrl-C. A machine with other work gives wide ranges: look at the ratios.
`;

/** Throws Error with one line for the user. */
export function parseOptions(argv: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      against: { type: 'string', multiple: true }, socket: { type: 'string', multiple: true }, 'no-nodelet': { type: 'boolean' }, best: { type: 'boolean' }, floor: { type: 'boolean' }, delay: { type: 'boolean' },
      runtime: { type: 'string', default: 'runc' }, rounds: { type: 'string', default: '30' }, pods: { type: 'string', default: '10,50' }, repeats: { type: 'string', default: '3' },
      only: { type: 'string', default: 'life,pods,memory,lists' }, 'host-network': { type: 'boolean' }, seccomp: { type: 'string', default: 'unconfined' },
      'ip-masq': { type: 'boolean' }, image: { type: 'string' }, json: { type: 'string' }, markdown: { type: 'boolean' }, help: { type: 'boolean', short: 'h' },
    },
  });
  for (const name of values.against ?? []) if (name !== 'containerd') throw new Error(`--against ${name}: only containerd can be started; give the socket of another by --socket NAME=PATH`);
  const sockets = (values.socket ?? []).map((text) => {
    const [, name, socket] = /^([^=]+)=(\/.+)$/.exec(text) ?? [];
    if (name === undefined || socket === undefined) throw new Error(`--socket ${text}: must be NAME=PATH`);
    return { name, socket };
  });
  if (sockets.length > 0 && values.image === undefined) throw new Error('--socket needs --image: a running server does not know our test images');
  const runtime = oneOf('--runtime', values.runtime, ['runc', 'crun']);
  const only = values.only.split(',').map((part) => oneOf('--only', part, parts));
  return {
    nodelet: values['no-nodelet'] !== true, best: values.best === true, containerd: (values.against ?? []).length > 0, floor: values.floor === true, delay: values.delay === true, sockets, runtime,
    rounds: count('--rounds', values.rounds), pods: values.pods.split(',').map((text) => count('--pods', text)), repeats: count('--repeats', values.repeats), only,
    hostNetwork: values['host-network'] === true, seccomp: oneOf('--seccomp', values.seccomp, ['unconfined', 'default']), ipMasq: values['ip-masq'] === true,
    image: values.image, json: values.json, markdown: values.markdown === true, help: values.help === true,
  };
}

function oneOf<Word extends string>(flag: string, text: string, words: readonly Word[]): Word {
  const found = words.find((word) => word === text);
  if (found === undefined) throw new Error(`${flag} ${text}: must be one of ${words.join(', ')}`);
  return found;
}

function count(flag: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 1000) throw new Error(`${flag} ${text}: must be a whole number from 1 to 1000`);
  return value;
}
