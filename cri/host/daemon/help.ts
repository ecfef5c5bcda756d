/** What `nodelet help` and `nodelet COMMAND --help` print. Pure. */
import { logLevels } from '../log-level.ts';
import { defaultConfigFile } from './flags.ts';
import type { HalfFlag } from './half.ts';
import type { Command, Program } from './program.ts';

const line = (head: string, about: string): string => `  ${head.padEnd(20)}${about}\n`;
export const flagLine = (name: string, { takes, about }: Pick<HalfFlag, 'about'> & { readonly takes: string }): string => line(`--${name} ${takes}`, about);

/** The flags that every command has. */
function sharedFlags({ halves }: Program): string {
  const ofHalves = new Map(halves.toReversed().flatMap(({ flags }) => Object.entries(flags).filter(([, { isShared }]) => isShared)));
  return [
    'Flags\n',
    flagLine('config', {
      takes: 'FILE', about: `configuration (default ${defaultConfigFile}, which may be missing); drop-ins beside it: FILE's name with .d for .yaml`,
    }),
    ...[...ofHalves].map(([name, flag]) => flagLine(name, flag)),
    flagLine('log-level', { takes: 'LEVEL', about: logLevels.join(', ') }),
    'A flag wins over the configuration.\n',
  ].join('');
}

export const commandHelp = (program: Program, { help }: Command): string => `${help}\n${sharedFlags(program)}`;

export function overview(program: Program): string {
  const forms = [...program.commands.flatMap(({ forms: own }) => own), ['nodelet help [COMMAND]', 'or nodelet COMMAND --help'] as const];
  const width = Math.max(...forms.map(([form]) => form.length));
  const list = forms.map(([form, about]) => `  ${form.padEnd(width)} ${about}`.trimEnd());
  return `${program.about}\n\n${list.join('\n')}\n\n${sharedFlags(program)}\n${program.hints}`;
}
