/** The flags of the daemon, and the configuration keys that they override. */
import { resolve } from 'node:path';
import type { ParseArgsOptionsConfig } from 'node:util';
import type { Layer } from '#host/config/files.ts';
import { valueAt } from '#host/config/key.ts';

export type Flags = Readonly<Record<string, string | boolean | undefined>>;

const overrides: Readonly<Record<string, readonly (readonly [section: string, key: string])[]>> = {
  root: [['cri', 'rootDir'], ['agent', 'root']],
  state: [['cri', 'stateDir']],
  socket: [['cri', 'socket'], ['agent', 'containerRuntimeEndpoint']],
  kubeconfig: [['agent', 'kubeconfig']],
  'node-name': [['agent', 'nodeName']],
  pods: [['agent', 'staticPodPath']],
  'log-level': [['log', 'level']],
};
const pathFlags: ReadonlySet<string> = new Set(['root', 'state', 'socket', 'kubeconfig', 'pods']);

export const flagOptions: ParseArgsOptionsConfig = {
  config: { type: 'string' }, ...Object.fromEntries(Object.keys(overrides).map((name) => [name, { type: 'string' } as const])),
  name: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' }, version: { type: 'boolean' },
};

/** Each flag that was given as a layer of configuration. Paths are relative to where the command was typed. */
export const flagLayers = (flags: Flags): Layer[] =>
  Object.entries(overrides).flatMap(([flag, keys]): Layer[] => {
    const value = flags[flag];
    if (typeof value !== 'string') return [];
    const given = pathFlags.has(flag) ? resolve(value) : value;
    const content: Record<string, Record<string, unknown>> = {};
    for (const [section, key] of keys) content[section] = { ...content[section], [key]: key === 'containerRuntimeEndpoint' ? `unix://${given}` : given };
    return [{ content, sourceOf: () => `--${flag}` }];
  });

/** Where pods live on a node that no cluster has given a range. */
const standalonePodCidr = '10.86.0.0/24';

/** What follows from other keys as long as nobody says it, so that the two halves of one node find each other. Lies below everything else. */
export function derivedLayers(raw: unknown, isWholeNode: boolean): Layer[] {
  const found: Layer[] = [];
  const derive = (section: string, content: Readonly<Record<string, unknown>>, from: string): void => void found.push({ content: { [section]: content }, sourceOf: () => `follows from ${from}` });
  const stateDir = valueAt(raw, ['cri', 'stateDir']);
  const socket = valueAt(raw, ['cri', 'socket']) ?? (typeof stateDir === 'string' ? `${stateDir}/cri.sock` : undefined);
  const rootDir = valueAt(raw, ['cri', 'rootDir']);
  if (typeof stateDir === 'string') derive('cri', { socket }, 'cri.stateDir');
  if (typeof socket === 'string') derive('agent', { containerRuntimeEndpoint: `unix://${socket}` }, 'cri.socket');
  if (typeof rootDir === 'string') derive('agent', { root: rootDir }, 'cri.rootDir');
  if (isWholeNode && (valueAt(raw, ['agent', 'kubeconfig']) ?? undefined) === undefined) derive('cri', { cni: { podCidrs: [standalonePodCidr] } }, 'the absence of agent.kubeconfig');
  return found;
}
