/**
 * Prints what package-lock.json has for this machine and node_modules has not, as NAME@VERSION: npm leaves out optional packages (such as the native half of
 * oxlint) whose `engines` exclude the Node that npm itself runs on, although the pinned Node is the one that loads them.
 */
import { existsSync, readFileSync } from 'node:fs';

interface Locked {
  readonly version: string;
  readonly optional?: boolean;
  readonly os?: string | readonly string[];
  readonly cpu?: string | readonly string[];
  readonly libc?: string | readonly string[];
}

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Readonly<Record<string, Locked>> };
const header = (process.report.getReport() as { header: { glibcVersionRuntime?: string } }).header;
const libc = header.glibcVersionRuntime === undefined ? 'musl' : 'glibc';

const fits = (wanted: string | readonly string[] | undefined, have: string): boolean => wanted === undefined || [wanted].flat().includes(have);

for (const [path, { version, optional, os, cpu, libc: wantedLibc }] of Object.entries(packages)) {
  // Only those bound to a platform: any other was left out on purpose.
  if (optional !== true || os === undefined || existsSync(path)) continue;
  if (fits(os, process.platform) && fits(cpu, process.arch) && fits(wantedLibc, libc)) console.log(`${path.slice(path.lastIndexOf('node_modules/') + 13)}@${version}`);
}
