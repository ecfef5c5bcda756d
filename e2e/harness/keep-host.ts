/** What a stock kubelet changes on its host and never puts back: sysctls, hard-coded folders, iptables chains. */
import { existsSync, lstatSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { shell } from './shell.ts';
import { findSystemProgram } from './tools.ts';

/** protectKernelDefaults: false sets these; no namespace holds them. */
const tunables = ['vm/overcommit_memory', 'vm/panic_on_oom', 'kernel/panic', 'kernel/panic_on_oops', 'kernel/keys/root_maxkeys', 'kernel/keys/root_maxbytes'];
const hardCoded = ['/var/lib/kubelet', '/var/log/containers', '/usr/libexec/kubernetes'];

/** Remembers the host as it is; returns what puts it back once the kubelet has ended. */
export async function keepHostAsItIs(): Promise<() => Promise<void>> {
  const values = tunables.map((name) => `/proc/sys/${name}`).filter((file) => existsSync(file)).map((file) => [file, readFileSync(file, 'utf8')] as const);
  const files = new Set((await Promise.all(hardCoded.map(tree))).flat());
  const chains = new Set((await kubeChains()).map(({ command }) => command.join(' ')));
  return async () => {
    for (const [file, value] of values) if (readFileSync(file, 'utf8') !== value) writeFileSync(file, value);
    for (const each of (await Promise.all(hardCoded.map(tree))).flat().reverse()) if (!files.has(each)) remove(each);
    for (const { program, command, jumps } of await kubeChains()) {
      if (chains.has(command.join(' '))) continue;
      for (const jump of jumps) await shell(program, jump);
      await shell(program, command.map((word) => (word === '-X' ? '-F' : word)));
      await shell(program, command);
    }
  };
}

const remove = (file: string): void => { if (lstatSync(file).isDirectory()) rmdirSync(file); else rmSync(file); };

/** The folder and all below it, parents first; nothing when it is not there. */
async function tree(dir: string): Promise<string[]> {
  if (!existsSync(dir)) return [];
  return [dir, ...(await readdir(dir, { recursive: true })).map((each) => path.join(dir, each)).sort()];
}

interface Chain { readonly program: string; /** Deletes the empty chain. */ readonly command: readonly string[]; /** Deletes the rules that jump to it. */ readonly jumps: readonly (readonly string[])[] }

/** KUBE-FIREWALL, canaries and hints, in both families. */
async function kubeChains(): Promise<Chain[]> {
  const found: Chain[] = [];
  for (const name of ['iptables', 'ip6tables']) {
    const program = findSystemProgram(name);
    const save = findSystemProgram(`${name}-save`);
    if (program === undefined || save === undefined) continue;
    let table = '';
    const lines = (await shell(save, [])).split('\n');
    for (const line of lines) {
      if (line.startsWith('*')) table = line.slice(1);
      const [, chain] = /^:(KUBE-\S+) /.exec(line) ?? [];
      if (chain === undefined) continue;
      const own = lines.slice(lines.indexOf(`*${table}`));
      const jumps = own.slice(0, own.indexOf('COMMIT')).filter((each) => each.startsWith('-A') && each.endsWith(` -j ${chain}`));
      found.push({ program, command: ['-w', '-t', table, '-X', chain], jumps: jumps.map((each) => ['-w', '-t', table, '-D', ...each.split(' ').slice(1)]) });
    }
  }
  return found;
}
