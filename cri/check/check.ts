/** `nodelet check`: look, then judge. */
import type { Ctx } from '#host/ctx.ts';
import type { CriConfig } from '../config.ts';
import type { HostFacts } from './facts.ts';
import type { Finding } from './finding.ts';
import { gatherFacts } from './gather.ts';
import { judge } from './judge.ts';
import { writeReport } from './report.ts';

export interface CheckRequest {
  readonly cri: CriConfig;
  readonly nodeName: string;
  readonly ports: readonly { readonly port: number; readonly what: string }[];
}

export interface CheckResult {
  readonly facts: HostFacts;
  readonly findings: readonly Finding[];
  readonly isFit: boolean;
  /** For people. */
  readonly report: string;
}

export async function checkHost(ctx: Ctx, { cri, nodeName, ports }: CheckRequest): Promise<CheckResult> {
  const facts = await gatherFacts(ctx, cri, ports.map(({ port }) => port));
  const findings = judge(facts, {
    rootDir: cri.rootDir, areRuntimesConfigured: cri.runtimes.length > 0, defaultRuntime: cri.defaultRuntime, ports, nodeName,
  });
  return { facts, findings, isFit: !findings.some(({ verdict }) => verdict === 'fail'), report: writeReport(`${facts.hostName}: ${facts.system}`, findings) };
}
