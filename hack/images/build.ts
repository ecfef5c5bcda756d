/** node hack/images/build.ts [quick|critest|conformance|bench]…: makes the test images as OCI layouts in the user's cache and prints where. Default: quick. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { takeLock } from '../judges/lock.ts';
import { cacheDir, findJudge, judgesVersion } from '../judges/pins.ts';
import { debianBusybox, sourceBusybox } from './busybox.ts';
import { addConformance } from './conformance.ts';
import { Layout } from './layout.ts';
import { addBench, addCritest, addQuick, busyboxLayer, type Programs } from './sets.ts';

/** quick: a shell under the usual names; critest: all of critest's; conformance: agnhost and others of Kubernetes' e2e.test; bench: three big ones. */
const imageSets = ['quick', 'critest', 'conformance', 'bench'] as const;
export type ImageSet = (typeof imageSets)[number];

const programsDir = path.join(import.meta.dirname, 'programs');

/** Changes with the generator, so that layouts of different versions never mix. */
function version(): string {
  const hash = createHash('sha256').update(process.arch).update(judgesVersion());
  for (const dir of [import.meta.dirname, programsDir]) {
    for (const file of readdirSync(dir).filter((each) => /(?<!\.test)\.(ts|c)$/.test(each)).sort()) hash.update(file).update(readFileSync(path.join(dir, file)));
  }
  return hash.digest('hex').slice(0, 12);
}

const layoutDir = (set: ImageSet): string => path.join(cacheDir(), 'images', version(), set);

/** Makes the set unless it is there; returns the layout's folder. */
export async function buildLayout(set: ImageSet, say: (line: string) => void = () => undefined): Promise<string> {
  const dir = layoutDir(set);
  if (existsSync(dir)) return dir;
  using _one = await takeLock(path.join(cacheDir(), 'images/lock'), { onWait: (holder) => { say(`images: waiting for ${holder}, which makes them`); } });
  if (existsSync(dir)) return dir;
  const begin = Date.now();
  const draft = `${dir}.tmp`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { recursive: true });
  const layout = new Layout(draft);
  fill(layout, set, say);
  layout.finish();
  renameSync(draft, dir);
  say(`images: ${set}, ${layout.references.length} references, ${((Date.now() - begin) / 1000).toFixed(1)} s`);
  return dir;
}

function fill(layout: Layout, set: ImageSet, say: (line: string) => void): void {
  switch (set) {
    case 'quick': addQuick(layout, busyboxLayer(debianBusybox(path.join(cacheDir(), 'images/busybox-static')))); return;
    case 'critest': addCritest(layout, busyboxLayer(sourceBusybox(sourceDir(), say)), compile()); return;
    case 'conformance': addConformance(layout, { busybox: sourceBusybox(sourceDir(), say), agnhost: readFileSync(agnhost()), ...compile() }); return;
    case 'bench': addBench(layout); return;
    default: set satisfies never;
  }
}

const sourceDir = (): string => path.join(cacheDir(), 'images/busybox-source');

function agnhost(): string {
  const file = findJudge('agnhost');
  if (file === undefined) throw new Error('agnhost is not built: npm run judges -- agnhost');
  return file;
}

/** The C programs, static and without anything that depends on place or time. */
function compile(): Programs {
  const dir = path.join(cacheDir(), 'images', version(), 'programs');
  mkdirSync(dir, { recursive: true });
  const build = (name: string): Buffer => {
    execFileSync('gcc', ['-Os', '-s', '-static', '-Wall', '-Werror', '-frandom-seed=1', '-Wl,--build-id=none', '-o', path.join(dir, name), `${name}.c`], { cwd: programsDir });
    return readFileSync(path.join(dir, name));
  };
  return { pause: build('pause'), web: build('web'), nnp: build('nnp') };
}

async function main(words: readonly string[]): Promise<void> {
  const unknown = words.find((each) => !(imageSets as readonly string[]).includes(each));
  if (unknown !== undefined) throw new Error(`no set is called ${unknown}; there are: ${imageSets.join(' ')}`);
  for (const set of imageSets) if (words.includes(set) || (words.length === 0 && set === 'quick')) console.log(await buildLayout(set, (line) => { console.error(line); }));
}

if (import.meta.main) {
  try { await main(process.argv.slice(2)); } catch (e) {
    console.error(`images: ${e instanceof Error ? e.message : String(e)}`);
    process.exitCode = 1;
  }
}
