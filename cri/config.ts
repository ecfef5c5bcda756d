/** The `cri:` part of the configuration file: its shape, its defaults, and a check that names the offending key. */
import { Fault } from '#host/fault.ts';

export interface RuntimeHandlerConfig {
  readonly name: string;
  /** A program with runc's command line. */
  readonly path: string;
}

export interface CriConfig {
  readonly rootDir: string;
  readonly stateDir: string;
  readonly socket: string;
  readonly certsDir: string;
  readonly cgroupDriver: 'cgroupfs' | 'systemd';
  /** Empty: the runtimes that are installed and work here, crun before runc. */
  readonly runtimes: readonly RuntimeHandlerConfig[];
  /** The handler for an empty name; undefined: the first that works. */
  readonly defaultRuntime: string | undefined;
  readonly conmon: string;
  /** The init of pods that share one pid namespace; needs `-P` (pause) like catatonit's. */
  readonly podInit: string;
  readonly cni: {
    readonly confDir: string;
    readonly binDirs: readonly string[];
    /** A bridge network for these is used while confDir is empty; without them the network is not ready until confDir has one. */
    readonly podCidrs: readonly string[];
    /** Name of that bridge interface. */
    readonly bridge: string;
  };
}

export const defaultCriConfig: CriConfig = {
  rootDir: '/var/lib/nodelet',
  stateDir: '/run/nodelet',
  socket: '/run/nodelet/cri.sock',
  certsDir: '/etc/nodelet/certs.d',
  cgroupDriver: 'cgroupfs',
  runtimes: [],
  defaultRuntime: undefined,
  conmon: 'conmon',
  podInit: 'catatonit',
  cni: { confDir: '/etc/cni/net.d', binDirs: ['/opt/cni/bin', '/usr/lib/cni'], podCidrs: [], bridge: 'nodelet0' },
};

type Check = (value: unknown, key: string) => unknown;
const reject = (key: string, wanted: string, value: unknown): never => {
  throw new Fault('invalid', `${key}: must be ${wanted}, not ${JSON.stringify(value)}`);
};
const text: Check = (value, key) => (typeof value === 'string' && value !== '' ? value : reject(key, 'a text', value));
const absolute: Check = (value, key) => (typeof value === 'string' && value.startsWith('/') ? value : reject(key, 'an absolute path', value));
const oneOf = (...words: string[]): Check => (value, key) => (words.includes(String(value)) ? value : reject(key, words.join(' or '), value));
const listOf = (item: Check): Check => (value, key) =>
  Array.isArray(value) ? value.map((entry, i) => item(entry, `${key}[${i}]`)) : reject(key, 'a list', value);
const object = (shape: Readonly<Record<string, Check>>, required: readonly string[] = []): Check => (value, key) => {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return reject(key, 'a mapping', value);
  const result: Record<string, unknown> = {};
  for (const [name, entry] of Object.entries(value)) {
    const check = shape[name];
    if (check === undefined) throw new Fault('invalid', `${key}.${name}: unknown key; known are ${Object.keys(shape).join(', ')}`);
    result[name] = check(entry, `${key}.${name}`);
  }
  for (const name of required) if (result[name] === undefined) throw new Fault('invalid', `${key}.${name}: is missing`);
  return result;
};

const criShape: Readonly<Record<string, Check>> = {
  rootDir: absolute,
  stateDir: absolute,
  socket: absolute,
  certsDir: absolute,
  cgroupDriver: oneOf('cgroupfs', 'systemd'),
  runtimes: listOf(object({ name: text, path: absolute }, ['name', 'path'])),
  defaultRuntime: text,
  conmon: text,
  podInit: text,
  cni: object({ confDir: absolute, binDirs: listOf(absolute), podCidrs: listOf(text), bridge: text }),
};

/**
 * `raw` is the parsed `cri:` mapping (undefined: all defaults). Unknown keys and wrong types are Fault invalid: `FILE: cri.KEY: what is wrong`.
 */
export function parseCriConfig(raw: unknown, file: string): CriConfig {
  if (raw === undefined || raw === null) return defaultCriConfig;
  try {
    const given = object(criShape)(raw, 'cri') as Partial<Omit<CriConfig, 'cni'>> & { cni?: Partial<CriConfig['cni']> };
    const config = { ...defaultCriConfig, ...given, cni: { ...defaultCriConfig.cni, ...given.cni } };
    if (config.defaultRuntime !== undefined && config.runtimes.length > 0 && !config.runtimes.some(({ name }) => name === config.defaultRuntime)) {
      throw new Fault('invalid', `cri.defaultRuntime: ${JSON.stringify(config.defaultRuntime)} is not among cri.runtimes`);
    }
    // conmon's attach socket is <stateDir>/conmon/<64 hex>/attach, and a unix socket's path ends at 107 bytes.
    if (`${config.stateDir}/conmon`.length > 107 - 73) throw new Fault('invalid', `cri.stateDir: must be at most 27 characters long, for it holds unix sockets`);
    return config;
  } catch (error) {
    if (error instanceof Fault) throw new Fault(error.kind, `${file}: ${error.message}`);
    throw error;
  }
}
