/** Flags, and the configuration keys that they override. */
import { resolve } from 'node:path';
import type { ParseArgsOptionsConfig } from 'node:util';
import type { Layer } from '../config/files.ts';
import type { Half, HalfFlag } from './half.ts';
import type { Flags, Program } from './program.ts';
import { contentAt } from './tied.ts';

export const defaultConfigFile = '/etc/nodelet/config.yaml';

export const flagOptions = ({ halves, commands }: Program): ParseArgsOptionsConfig => ({
  config: { type: 'string' }, 'log-level': { type: 'string' }, help: { type: 'boolean', short: 'h' }, version: { type: 'boolean' },
  ...Object.fromEntries(halves.flatMap(({ flags }) => Object.keys(flags)).map((name) => [name, { type: 'string' } as const])),
  ...Object.fromEntries(commands.flatMap(({ flags = {} }) => Object.entries(flags))),
});

/** Each flag that was given as a layer of configuration. */
export const flagLayers = (halves: readonly Half[], flags: Flags): Layer[] => {
  const layer = (name: string, content: Layer['content']): Layer => ({ content, sourceOf: () => `--${name}` });
  const level = flags['log-level'];
  return [
    ...(typeof level === 'string' ? [layer('log-level', { log: { level } })] : []),
    ...halves.flatMap((half) => Object.entries(half.flags).flatMap(([name, flag]) => {
      const given = flags[name];
      return typeof given === 'string' ? [layer(name, contentAt(`${half.name}.${flag.key}`, keyValue(flag, given)))] : [];
    })),
  ];
};

function keyValue({ takes, convert }: HalfFlag, given: string): unknown {
  const value = takes === 'NAME' ? given : resolve(given);
  return convert === undefined ? value : convert(value);
}
