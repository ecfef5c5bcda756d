/** Two halves that do nothing, for tests: an engine, and wheels that need to know where the engine is. */
import { type ConfigOf, computed, key, live, section } from '../config/key.ts';
import { absolutePath, integer, listOf, text } from '../config/readers.ts';
import type { Half } from './half.ts';
import type { Composition } from './settings.ts';

const engineKeys = {
  rootDir: key(absolutePath, '/var/lib/engine', 'where it keeps things'),
  socket: key(absolutePath, '/run/engine.sock', ''),
  fuel: key(text, 'diesel', ''),
  intake: section('', { filters: live(key(listOf(text), [], '')), dir: live(key(absolutePath, '/air', '')) }),
} as const;
const wheelKeys = {
  engine: key(text, 'unix:///run/engine.sock', ''),
  count: key(integer(1, 18), 4, ''),
  owner: computed(text, () => 'me', 'you', ''),
} as const;

export const engine: Half<ConfigOf<typeof engineKeys>> = {
  name: 'engine',
  about: 'What drives.',
  keys: engineKeys,
  flags: { root: { takes: 'DIR', key: 'rootDir', about: '' }, socket: { takes: 'PATH', key: 'socket', about: '' } },
  problems: ({ fuel }) => (fuel === 'water' ? [{ place: ['fuel'], message: 'does not burn' }] : []),
  lockFile: ({ rootDir }) => `${rootDir}/lock`,
  start: () => Promise.reject(new Error('an engine for tests')),
  wipe: () => Promise.resolve(),
};

export const wheels: Half<ConfigOf<typeof wheelKeys>> = {
  name: 'wheels',
  about: 'What is driven.',
  keys: wheelKeys,
  flags: { socket: { takes: 'PATH', key: 'engine', about: '', convert: (path) => `unix://${path}` }, owner: { takes: 'NAME', key: 'owner', about: '' } },
  problems: () => [],
  lockFile: () => '/var/lib/wheels/lock',
  start: () => Promise.reject(new Error('wheels for tests')),
  wipe: () => Promise.resolve(),
};

export const car: Composition = {
  halves: [engine, wheels],
  ties: [
    { from: 'engine.rootDir', to: 'engine.socket', follow: (dir) => (typeof dir === 'string' ? `${dir}/sock` : undefined) },
    { from: 'engine.socket', to: 'wheels.engine', follow: (path) => (typeof path === 'string' ? `unix://${path}` : undefined) },
    { from: 'wheels.owner', to: 'wheels.count', isForWholeNode: true, follow: (owner) => (owner === undefined ? 3 : undefined) },
  ],
};
