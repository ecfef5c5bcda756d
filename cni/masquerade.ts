/**
 * Pods of the generated network reach the outside under the node's address: once per node, in a chain of our own.
 *
 *   nat POSTROUTING: -s POD-CIDR -j NODELET-MASQ        NODELET-MASQ: to pods or multicast → RETURN, else MASQUERADE
 *
 * Nothing of others is read, moved or restored. All of it goes away with `removeMasquerade`. May run any number of times.
 */
import type { Ctx } from '#host/ctx.ts';
import { CommandError, findProgram, run, runChecked } from '#host/exec.ts';
import { explain, Fault } from '#host/fault.ts';
import { parseSubnet, type Family, type Subnet } from './address.ts';

export const masqueradeChain = 'NODELET-MASQ';
/** The lock is shared with kube-proxy and network add-ons. */
const waitArgs = ['-w', '10'];
const comment = 'nodelet: from pods to outside';
const multicast: Readonly<Record<Family, string>> = { 4: '224.0.0.0/4', 6: 'ff00::/8' };

export interface MasqueradeOptions {
  readonly podCidrs: readonly string[];
  /** Reached under the pod's own address as well, besides the pod CIDRs. */
  readonly alsoDirect?: readonly string[];
  /** Default NODELET-MASQ. */
  readonly chain?: string | undefined;
}

/** Programs of one family, the distribution's choice first. */
interface Backend {
  readonly family: Family;
  readonly iptables: string;
  readonly restore: string;
}

async function findBackend(ctx: Ctx, family: Family): Promise<Backend | undefined> {
  const base = family === 4 ? 'iptables' : 'ip6tables';
  for (const variant of [base, `${base}-nft`, `${base}-legacy`]) {
    const [iptables, restore] = await Promise.all([findProgram(variant), findProgram(`${variant}-restore`)]);
    if (iptables === undefined || restore === undefined) continue;
    // A backend whose kernel half is missing fails even to list.
    const listed = await run(ctx, { path: iptables, args: [...waitArgs, '-t', 'nat', '-S', 'POSTROUTING'] });
    if (listed.exitCode === 0) return { family, iptables, restore };
  }
  return undefined;
}

/** The jump of one pod CIDR, as arguments after -A, -C or -D. Pure. */
const jumpRule = (subnet: Subnet, chain: string): string[] => ['POSTROUTING', '-s', subnet.cidr, '-m', 'comment', '--comment', comment, '-j', chain];

/** What iptables-restore --noflush gets: our chain from empty (that is what naming it does), and jumps that are missing. Pure. */
export function restoreText(options: { family: Family; chain: string; direct: readonly Subnet[]; missingJumps: readonly Subnet[] }): string {
  const { family, chain, direct, missingJumps } = options;
  const quoted = (rule: readonly string[]): string => rule.map((word) => (/\s/.test(word) ? `"${word}"` : word)).join(' ');
  return [
    '*nat',
    `:${chain} - [0:0]`,
    ...direct.filter((subnet) => subnet.family === family).map((subnet) => `-A ${chain} -d ${subnet.cidr} -j RETURN`),
    `-A ${chain} -d ${multicast[family]} -j RETURN`,
    `-A ${chain} -j MASQUERADE --random-fully`,
    ...missingJumps.map((subnet) => `-A ${quoted(jumpRule(subnet, chain))}`),
    'COMMIT',
    '',
  ].join('\n');
}

/** Throws Fault precondition when there is no usable iptables for a family that the pods have. */
export async function ensureMasquerade(ctx: Ctx, options: MasqueradeOptions): Promise<void> {
  const chain = options.chain ?? masqueradeChain;
  const pods = options.podCidrs.map(parseSubnet);
  const direct = [...pods, ...(options.alsoDirect ?? []).map(parseSubnet)];
  for (const family of [4, 6] as const) {
    const own = pods.filter((subnet) => subnet.family === family);
    if (own.length === 0) continue;
    const backend = await findBackend(ctx, family);
    if (backend === undefined) throw new Fault('precondition', `no usable ${family === 4 ? 'iptables' : 'ip6tables'} on this machine: pods will reach this node but nothing beyond it (install the package iptables)`);
    await dropJumps(ctx, backend, chain, own);
    const missingJumps: Subnet[] = [];
    for (const subnet of own) {
      const found = await run(ctx, { path: backend.iptables, args: [...waitArgs, '-t', 'nat', '-C', ...jumpRule(subnet, chain)] });
      if (found.exitCode !== 0) missingJumps.push(subnet);
    }
    await runChecked(ctx, { path: backend.restore, args: [...waitArgs, '--noflush'], stdin: restoreText({ family, chain, direct, missingJumps }) });
  }
}

/** Takes away the jumps to our chain, except those of `keep` (a node whose pod CIDR changed). */
async function dropJumps(ctx: Ctx, backend: Backend, chain: string, keep: readonly Subnet[]): Promise<void> {
  const listed = await runChecked(ctx, { path: backend.iptables, args: [...waitArgs, '-t', 'nat', '-S', 'POSTROUTING'] });
  for (const line of listed.stdout.toString('utf8').split('\n')) {
    const source = jumpSource(line, chain);
    if (source === undefined || keep.some((subnet) => subnet.cidr === source)) continue;
    await runChecked(ctx, { path: backend.iptables, args: [...waitArgs, '-t', 'nat', '-D', ...jumpRule(parseSubnet(source), chain)] });
  }
}

/** The pod CIDR of a line of `iptables -S` that is a jump of ours. Pure. */
export function jumpSource(line: string, chain: string): string | undefined {
  if (!line.startsWith('-A POSTROUTING ') || !line.includes(`"${comment}"`) || !line.endsWith(` -j ${chain}`)) return undefined;
  return / -s (\S+)/.exec(line)?.[1];
}

/** Absent is success, as is a machine without iptables. */
export async function removeMasquerade(ctx: Ctx, options: { chain?: string | undefined } = {}): Promise<void> {
  const chain = options.chain ?? masqueradeChain;
  for (const family of [4, 6] as const) {
    const backend = await findBackend(ctx, family);
    if (backend === undefined) continue;
    const there = await run(ctx, { path: backend.iptables, args: [...waitArgs, '-t', 'nat', '-S', chain] });
    if (there.exitCode !== 0) continue;
    try {
      await dropJumps(ctx, backend, chain, []);
      await runChecked(ctx, { path: backend.iptables, args: [...waitArgs, '-t', 'nat', '-F', chain] });
      await runChecked(ctx, { path: backend.iptables, args: [...waitArgs, '-t', 'nat', '-X', chain] });
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      throw new Fault('internal', `remove the chain ${chain}: ${explain(error)}`, error);
    }
  }
}
