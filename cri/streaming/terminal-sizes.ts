/** The sizes that a client's terminal takes: JSON objects one behind the other. */
import type { Readable } from 'node:stream';
import type { TerminalSize } from './targets.ts';

const maxTextLength = 4096;

/** The sizes in `text`, and what is left for the next piece. What is no size is skipped. Pure. */
export function parseSizes(text: string): { readonly sizes: TerminalSize[]; readonly rest: string } {
  const sizes: TerminalSize[] = [];
  const end = text.lastIndexOf('}') + 1;
  for (const [object] of text.slice(0, end).matchAll(/\{[^{}]*\}/g)) {
    const [columns, rows] = [numberNamed('width', object), numberNamed('height', object)];
    if (columns !== undefined && rows !== undefined) sizes.push({ columns, rows });
  }
  return { sizes, rest: text.slice(end).slice(-maxTextLength) };
}

/** A name in any case, as Go reads JSON. */
function numberNamed(name: string, object: string): number | undefined {
  const digits = new RegExp(`"${name}"\\s*:\\s*(\\d{1,5})\\b`, 'i').exec(object)?.[1];
  return digits === undefined || Number(digits) > 0xffff ? undefined : Number(digits);
}

/** The newest size, again and again; sizes that nobody came to see are left out. Ends with `channel`. */
export async function* terminalSizes(channel: Readable | undefined): AsyncGenerator<TerminalSize, void, undefined> {
  if (channel === undefined) return;
  let rest = '';
  try {
    for await (const chunk of channel.iterator({ destroyOnReturn: false })) {
      const parsed = parseSizes(rest + String(chunk));
      rest = parsed.rest;
      const newest = parsed.sizes.at(-1);
      if (newest !== undefined) yield newest;
    }
  } catch {
    // The client is gone, and its terminal with it.
  }
}
