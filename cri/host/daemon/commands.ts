/** The commands that work on all halves alike. What they do is imported when somebody asks for it. */
import type { Half } from './half.ts';
import { flagLine } from './help.ts';
import type { Command } from './program.ts';

const signals = `Signals
  SIGTERM, Ctrl-C     stops nodelet; containers keep running, and the next start finds them again
  SIGHUP              reads the configuration again, as a change of its files does; what is wrong changes nothing and is said in the log
`;

/** `about` ends before ", until it is told to stop". */
export function daemonCommand(name: string, about: string, halves: readonly Half[]): Command {
  const flags = new Map(halves.toReversed().flatMap((half) => Object.entries(half.flags)));
  const lines = [...flags].flatMap(([flag, each]) => (each.isShared === true ? [] : [flagLine(flag, each)])).join('');
  return {
    name,
    forms: [[`nodelet ${name}`, about]],
    help: `nodelet ${name}: ${about}, until it is told to stop.\n\n${lines}\n${signals}`,
    run: async (invocation) => (await import('./run.ts')).runDaemon(invocation, halves),
  };
}

export const configCommand: Command = {
  name: 'config',
  forms: [
    ['nodelet config check [FILE]', 'read the configuration and say everything that is wrong with it'],
    ['nodelet config default', 'print every configuration key with its default'],
    ['nodelet config show', 'print what holds, and where each value was said'],
  ],
  help: `nodelet config check [FILE]: reads FILE (or what --config says) with its drop-ins and names everything that is wrong: file, line, key, what is allowed.
nodelet config default: prints every key with its default, as a file that \`config check\` accepts.
nodelet config show: prints what holds, with the file and line (or flag) that said it.

Drop-ins are the files *.yaml of the directory that has the file's name with .d for .yaml, in the order of their names. What is said later wins: mappings
key by key, lists as a whole.
`,
  takesArguments: true,
  run: async (invocation) => (await import('./config.ts')).config(invocation),
};

export const wipeCommand: Command = {
  name: 'wipe',
  forms: [['nodelet wipe', 'remove everything nodelet made on this machine']],
  help: `nodelet wipe: removes everything nodelet made on this machine: containers, mounts, networks, cgroups, images, directories. Other programs' things stay.

Stop nodelet first: while it runs, wipe refuses. It may be repeated, and goes on where an interrupted one ended.
`,
  run: async (invocation) => (await import('./wipe.ts')).wipe(invocation),
};
