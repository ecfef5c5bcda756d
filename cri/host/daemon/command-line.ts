/** From what was typed to the command that does it. */
import { parseArgs } from 'node:util';
import { explain, Fault, isFault } from '../fault.ts';
import { flagOptions } from './flags.ts';
import { commandHelp, overview } from './help.ts';
import type { Flags, Program } from './program.ts';

/** What the process exits with. Everything that can go wrong becomes words on stderr. */
export async function runCommandLine(program: Program, argv: readonly string[]): Promise<number> {
  try {
    const { values: flags, positionals } = parse(program, argv);
    const [name = flags['version'] === true ? 'version' : 'help', ...args] = positionals;
    if (name === 'help') return help(program, args[0]);
    if (flags['help'] === true) return help(program, name);
    const command = commandOf(program, name);
    if (command.takesArguments !== true && args.length > 0) throw new Fault('invalid', `${name}: takes no argument, but got ${args.join(' ')}`);
    return await command.run({ program, flags, args });
  } catch (error) {
    console.error(`nodelet: ${explain(error)}`);
    return isFault(error, 'invalid') ? 2 : 1;
  }
}

function parse(program: Program, argv: readonly string[]): { values: Flags; positionals: string[] } {
  try {
    return parseArgs({ args: [...argv], options: flagOptions(program), allowPositionals: true }) as { values: Flags; positionals: string[] };
  } catch (error) {
    // parseArgs explains at length how to pass a positional that begins with a dash, which nodelet has none of.
    throw new Fault('invalid', `${explain(error).split('. To specify')[0]}; see nodelet help`);
  }
}

function help(program: Program, name = 'help'): number {
  console.log((name === 'help' ? overview(program) : commandHelp(program, commandOf(program, name))).trimEnd());
  return 0;
}

function commandOf({ commands }: Program, name: string): Program['commands'][number] {
  const command = commands.find((each) => each.name === name);
  if (command === undefined) throw new Fault('invalid', `unknown command ${name}; see nodelet help`);
  return command;
}
