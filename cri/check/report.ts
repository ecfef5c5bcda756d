/** Findings for people. Pure. */
import type { Finding } from './finding.ts';

const words = { ok: 'ok', note: 'note', warn: 'warn', fail: 'FAIL' } as const;
const plural = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

/** By topic, problems with what to do about them; the last line is the answer. */
export function writeReport(title: string, findings: readonly Finding[]): string {
  const lines = [title];
  for (const [topic, own] of Map.groupBy(findings, ({ topic }) => topic)) {
    lines.push('', topic);
    for (const { verdict, message, remedy } of own) lines.push(`  ${words[verdict].padEnd(4)}  ${message}`, ...(remedy === undefined ? [] : [`        -> ${remedy}`]));
  }
  const count = (verdict: Finding['verdict']): number => findings.filter((finding) => finding.verdict === verdict).length;
  const failed = count('fail');
  const others = `${plural(count('warn'), 'warning')}, ${plural(count('note'), 'note')}`;
  return [...lines, '', failed === 0 ? `Fit to be a node (${others}).` : `Not fit to be a node: ${plural(failed, 'thing')} to mend (${others}).`].join('\n');
}
