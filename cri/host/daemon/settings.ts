/** The whole configuration: files, drop-ins and flags laid over each other, read by the tables of keys, with every problem at once. */
import { resolve } from 'node:path';
import { writeDocument } from '../config/document.ts';
import { describeProblem, dropInDir, type FileProblem, type Layer, merge, readConfigFiles, speakerOf } from '../config/files.ts';
import { allKeys, type Keys, type Place, type Problem, readKeys, section, unknownKey, valueAt } from '../config/key.ts';
import { Fault } from '../fault.ts';
import { defaultConfigFile, flagLayers } from './flags.ts';
import type { Half } from './half.ts';
import { type LogConfig, logKeys } from './log-keys.ts';
import type { Flags, Program } from './program.ts';
import { tiedLayers } from './tied.ts';

/** What the configuration is made of. */
export type Composition = Pick<Program, 'halves' | 'ties'>;

/** The table of everything. */
const sectionsOf = ({ halves }: Composition): Keys => ({
  log: section('What it tells about itself.', logKeys(halves.map(({ name }) => name))),
  ...Object.fromEntries(halves.map(({ name, about, keys }) => [name, section(about, keys)])),
});

export interface Settings {
  readonly log: LogConfig;
  of<Config>(half: Half<Config>): Config;
  /** The main file, whether it is there or not, and the directory of its drop-ins. */
  readonly file: string;
  readonly dropInDir: string;
  /** As it stands in files and flags. */
  readonly raw: unknown;
  /** As it was read, by section. */
  readonly values: Readonly<Record<string, unknown>>;
  readonly layers: readonly Layer[];
}

/** `running`: the halves that run in one process. Fault invalid names every problem with file, line and key. */
export async function loadSettings(program: Composition, flags: Flags, running: readonly Half[] = program.halves): Promise<Settings> {
  const given = flags['config'];
  const file = typeof given === 'string' ? resolve(given) : defaultConfigFile;
  const unreadable: FileProblem[] = [];
  const files = await readConfigFiles(file, { mustExist: typeof given === 'string' }, (problem) => unreadable.push(problem));
  const isWholeNode = running.length === program.halves.length;
  const before = unreadable.map(({ source, message }) => `${source}: ${message}`);
  const settings = settingsOf(program, [...files, ...flagLayers(program.halves, flags)], isWholeNode, before);
  return { ...settings, file, dropInDir: dropInDir(file) };
}

type Read = Omit<Settings, 'file' | 'dropInDir'>;

/** `before` are problems that are known already. */
export function settingsOf(program: Composition, said: readonly Layer[], isWholeNode: boolean, before: readonly string[] = []): Read {
  const tied = tiedLayers(program.ties, merge(said), isWholeNode);
  const layers = [...tied, ...said];
  const raw = merge(layers);
  const sections = sectionsOf(program);
  const problems: Problem[] = [];
  for (const name of Object.keys(raw)) if (!Object.hasOwn(sections, name)) problems.push({ place: [name], message: unknownKey(name, Object.keys(sections)) });
  const known = Object.fromEntries(Object.keys(sections).map((name) => [name, raw[name]]));
  const values: Readonly<Record<string, unknown>> = readKeys(sections, known, [], (problem) => {
    // A mistake is told where it was made, not again where something follows from it.
    if (!tied.some((layer) => layer === speakerOf(layers, problem.place))) problems.push(problem);
  });
  // What belongs together is looked at only where each value is right by itself.
  if (problems.length === 0) problems.push(...program.halves.flatMap((half) => below(half.name, half.problems(values[half.name]))));
  const all = [...before, ...problems.map((problem) => describeProblem(layers, problem))];
  if (all.length > 0) throw new Fault('invalid', all.length === 1 ? (all[0] ?? '') : `${all.length} problems in the configuration:\n  ${all.join('\n  ')}`);
  return {
    raw, layers, values,
    log: values['log'] as LogConfig, // read by its table
    of: <Config>(half: Half<Config>) => values[half.name] as Config, // read by the half's table
  };
}

const below = (part: string, problems: readonly Problem[]): Problem[] => problems.map(({ place, message }) => ({ place: [part, ...place], message }));

/** Every key with its default, for `config default` and manifests/config/nodelet.yaml. */
export const defaultDocument = (program: Composition): string => `# ${defaultConfigFile}: every key with its default. A key that is left out has its default, one in a comment here has none; an unknown key is refused.
# Files in ${dropInDir(defaultConfigFile)}/*.yaml are laid over this one in the order of their names: mappings key by key, lists as a whole.
# \`nodelet config check\` reads them without starting anything. Keys marked * change in a running nodelet when a file does, or on SIGHUP; the others need
# a restart.
${writeDocument(sectionsOf(program), (_place, { byDefault, about }, isLive) => ({ value: byDefault, comment: `${about}${isLive ? ' *' : ''}`.trim() }))}`;

/** What holds, with where it was said. */
export const effectiveDocument = (program: Composition, { raw, layers, values }: Settings): string =>
  writeDocument(sectionsOf(program), (place, entry) => {
    const value: unknown = valueAt(raw, place) ?? undefined;
    if (value !== undefined) return { value, comment: speakerOf(layers, place)?.sourceOf(place) ?? '' };
    if (entry.compute === undefined) return { value: entry.byDefault, comment: 'default' };
    return { value: valueAt(values, place), comment: 'default, from this machine' };
  }).trimStart();

export interface ChangedKeys {
  /** Dotted names of keys that take effect at once. */
  readonly live: readonly string[];
  readonly needRestart: readonly string[];
}

/** The keys whose values differ. */
export function changedKeys(program: Composition, before: Settings, after: Settings, isOurs: (section: string) => boolean): ChangedKeys {
  const differs = (place: Place): boolean => JSON.stringify(valueAt(before.raw, place) ?? null) !== JSON.stringify(valueAt(after.raw, place) ?? null);
  const changed = allKeys(sectionsOf(program)).filter(({ place }) => isOurs(String(place[0])) && differs(place));
  const names = (isLive: boolean): string[] => changed.filter((found) => found.isLive === isLive).map(({ name }) => name);
  return { live: names(true), needRestart: names(false) };
}
