/** Programs of this machine with the shared libraries they need, as parts of an image. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { Layer } from './layer.ts';

const folders = ['/usr/bin', '/bin', '/usr/sbin', '/sbin'];

/** A layer with those of the named programs that this machine has, at /usr/bin, and each library once; `links` adds names for them. */
export function hostPrograms(names: readonly string[], links: Readonly<Record<string, string>> = {}): Buffer {
  const layer = new Layer();
  const libraries = new Set<string>();
  const present = new Set<string>();
  for (const name of names) {
    const file = folders.map((dir) => path.join(dir, name)).find((each) => existsSync(each));
    if (file === undefined) continue;
    present.add(name);
    layer.file(`usr/bin/${name}`, readFileSync(file), 0o755);
    for (const library of librariesOf(file)) libraries.add(library);
  }
  for (const library of [...libraries].sort()) layer.file(library.slice(1), readFileSync(realpathSync(library)), 0o755);
  for (const [at, target] of Object.entries(links)) if (present.has(path.basename(target))) layer.symlink(at, target);
  return layer.bytes();
}

/** Absolute paths as the loader will look for them; a static program has none. */
function librariesOf(file: string): string[] {
  let text: string;
  try { text = execFileSync('ldd', [file], { stdio: ['ignore', 'pipe', 'ignore'] }).toString(); } catch { return []; }
  return [...text.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? '').filter(Boolean);
}
