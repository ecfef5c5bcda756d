/** The command line: subcommands, each importing lazily only what it needs. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { explain, Fault, isFault } from '#host/fault.ts';
import { type Flags, flagOptions } from './command/flags.ts';
import { helpText } from './command/help.ts';

function version(): string {
  // package.json lies beside nodelet.ts, and above dist/nodelet.js.
  const dir = import.meta.filename.endsWith('.ts') ? import.meta.dirname : dirname(import.meta.dirname);
  return (JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as { version: string }).version;
}

type Command = (flags: Flags, args: readonly string[]) => Promise<number> | number;

const without = (name: string, command: (flags: Flags) => Promise<number> | number): Command => (flags, args) => {
  if (args.length > 0) throw new Fault('invalid', `${name}: takes no argument, but got ${args.join(' ')}`);
  return command(flags);
};

const daemon = (name: string, ...halves: readonly ('cri' | 'agent')[]): Command =>
  without(name, async (flags) => (await import('./command/run.ts')).runDaemon(flags, halves, version()));

const commands: Readonly<Record<string, Command>> = {
  run: daemon('run', 'cri', 'agent'),
  cri: daemon('cri', 'cri'),
  agent: daemon('agent', 'agent'),
  config: async (flags, args) => (await import('./command/config.ts')).config(flags, args),
  check: without('check', async (flags) => (await import('./command/check.ts')).check(flags)),
  image: async (flags, args) => (await import('./command/images.ts')).image(flags, args),
  wipe: without('wipe', async (flags) => (await import('./command/wipe.ts')).wipe(flags)),
  version: without('version', async () => (await import('./command/version.ts')).printVersion(version())),
  help: (_flags, [name]) => help(name),
};

function help(name?: string): number {
  const text = helpText(name);
  if (text === undefined) throw unknown(name ?? '');
  console.log(text.trimEnd());
  return 0;
}

const unknown = (name: string): Fault => new Fault('invalid', `unknown command ${name}; see nodelet help`);

/** What the process exits with. Everything that can go wrong becomes words on stderr. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    const { values, positionals } = parse(argv);
    const [name = values['version'] === true ? 'version' : 'help', ...args] = positionals;
    if (values['help'] === true) return help(name);
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
    if (command === undefined) throw unknown(name);
    return await command(values, args);
  } catch (error) {
    console.error(`nodelet: ${explain(error)}`);
    return isFault(error, 'invalid') ? 2 : 1;
  }
}

function parse(argv: readonly string[]): { values: Flags; positionals: string[] } {
  try {
    return parseArgs({ args: [...argv], options: flagOptions, allowPositionals: true }) as { values: Flags; positionals: string[] };
  } catch (error) {
    // parseArgs explains at length how to pass a positional that begins with a dash, which nodelet has none of.
    throw new Fault('invalid', `${explain(error).split('. To specify')[0]}; see nodelet help`);
  }
}

if (process.argv[1] !== undefined && /^nodelet\.(ts|js)$/.test(process.argv[1].split('/').at(-1) ?? '')) {
  void main(process.argv.slice(2)).then((status) => process.exit(status));
}
