/** This program's own version. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** As package.json says, which lies at the top of the checkout and above dist/nodelet.js. */
export function ownVersion(): string {
  const top = import.meta.filename.endsWith('.ts') ? join(import.meta.dirname, '../..') : dirname(import.meta.dirname);
  return (JSON.parse(readFileSync(join(top, 'package.json'), 'utf8')) as { version: string }).version;
}
