/** The whole configuration: files, drop-ins and flags laid over each other, read by the tables of keys, with every problem at once. */
import { resolve } from 'node:path';
import { dropInDir, describeProblem, type FileProblem, type Layer, merge, readConfigFiles, speakerOf } from '#host/config/files.ts';
import { writeDocument } from '#host/config/document.ts';
import { allKeys, type Place, type Problem, readKeys, section, unknownKey, valueAt } from '#host/config/key.ts';
import { Fault } from '#host/fault.ts';
import { agentKeys, agentProblems, type AgentConfig } from '../agent/config.ts';
import { criKeys, criProblems, type CriConfig } from '../cri/config.ts';
import { derivedLayers, flagLayers, type Flags } from './flags.ts';
import { type LogConfig, logKeys } from './log-config.ts';

const defaultConfigFile = '/etc/nodelet/config.yaml';

/** The table of everything. */
const allSections = {
  log: section('What it tells about itself.', logKeys),
  cri: section('The CRI server.', criKeys),
  agent: section('The agent: KubeletConfiguration\'s names and defaults wherever it has them.', agentKeys),
} as const;

export interface Settings {
  readonly log: LogConfig;
  readonly cri: CriConfig;
  readonly agent: AgentConfig;
  /** The main file, whether it is there or not, and the directory of its drop-ins. */
  readonly file: string;
  readonly dropInDir: string;
  /** As it stands in files and flags. */
  readonly raw: unknown;
  readonly layers: readonly Layer[];
}

/** `isWholeNode`: both halves run in one process. Fault invalid names every problem with file, line and key. */
export async function loadSettings(flags: Flags, isWholeNode = true): Promise<Settings> {
  const given = flags['config'];
  const file = typeof given === 'string' ? resolve(given) : defaultConfigFile;
  const unreadable: FileProblem[] = [];
  const files = await readConfigFiles(file, { mustExist: typeof given === 'string' }, (problem) => unreadable.push(problem));
  const settings = settingsOf([...files, ...flagLayers(flags)], isWholeNode, unreadable.map(({ source, message }) => `${source}: ${message}`));
  return { ...settings, file, dropInDir: dropInDir(file) };
}

/** `before` are problems that are known already. */
export function settingsOf(said: readonly Layer[], isWholeNode: boolean, before: readonly string[] = []): Omit<Settings, 'file' | 'dropInDir'> {
  const derived = derivedLayers(merge(said), isWholeNode);
  const layers = [...derived, ...said];
  const raw = merge(layers);
  const problems: Problem[] = [];
  for (const name of Object.keys(raw)) if (!Object.hasOwn(allSections, name)) problems.push({ place: [name], message: unknownKey(name, Object.keys(allSections)) });
  const config = readKeys(allSections, Object.fromEntries(Object.keys(allSections).map((name) => [name, raw[name]])), [], (problem) => {
    // A mistake is told where it was made, not again where something follows from it.
    if (!derived.some((layer) => layer === speakerOf(layers, problem.place))) problems.push(problem);
  });
  // What belongs together is looked at only where each value is right by itself.
  if (problems.length === 0) problems.push(...below('cri', criProblems(config.cri)), ...below('agent', agentProblems(config.agent)));
  const all = [...before, ...problems.map((problem) => describeProblem(layers, problem))];
  if (all.length > 0) throw new Fault('invalid', all.length === 1 ? (all[0] ?? '') : `${all.length} problems in the configuration:\n  ${all.join('\n  ')}`);
  return { ...config, raw, layers };
}

const below = (part: string, problems: readonly Problem[]): Problem[] => problems.map(({ place, message }) => ({ place: [part, ...place], message }));

/** Every key with its default, for `config default` and manifests/config/nodelet.yaml. */
export const defaultDocument = (): string => `# ${defaultConfigFile}: every key with its default. A key that is left out has its default, one in a comment here has none; an unknown key is refused.
# Files in ${dropInDir(defaultConfigFile)}/*.yaml are laid over this one in the order of their names: mappings key by key, lists as a whole.
# \`nodelet config check\` reads them without starting anything. Keys marked * change in a running nodelet when a file does, or on SIGHUP; the others need
# a restart.
${writeDocument(allSections, (_place, { byDefault, about }, isLive) => ({ value: byDefault, comment: `${about}${isLive ? ' *' : ''}`.trim() }))}`;

/** What holds, with where it was said. */
export const effectiveDocument = ({ raw, layers, ...config }: Settings): string =>
  writeDocument(allSections, (place, entry) => {
    const value: unknown = valueAt(raw, place) ?? undefined;
    if (value !== undefined) return { value, comment: speakerOf(layers, place)?.sourceOf(place) ?? '' };
    return entry.compute === undefined ? { value: entry.byDefault, comment: 'default' } : { value: valueAt(config, place), comment: 'default, from this machine' };
  }).trimStart();

export interface ChangedKeys {
  /** Dotted names of keys that take effect at once. */
  readonly live: readonly string[];
  readonly needRestart: readonly string[];
}

/** The keys whose values differ. */
export function changedKeys(before: Settings, after: Settings, isOurs: (section: string) => boolean): ChangedKeys {
  const differs = (place: Place): boolean => JSON.stringify(valueAt(before.raw, place) ?? null) !== JSON.stringify(valueAt(after.raw, place) ?? null);
  const changed = allKeys(allSections).filter(({ place }) => isOurs(String(place[0])) && differs(place));
  const names = (isLive: boolean): string[] => changed.filter((found) => found.isLive === isLive).map(({ name }) => name);
  return { live: names(true), needRestart: names(false) };
}
