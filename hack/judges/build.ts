/**
 * npm run judges [-- NAME…]: builds the missing judges from the Go module proxy into the user's cache. A NAME is a judge or a group; default: `test`.
 * Each binary appears by rename when it is complete, so an interrupted run goes on where it stopped; two runs wait for each other.
 */
import { execFile, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { takeLock } from './lock.ts';
import { cacheDir, critestImageDigest, groups, judgePath, judges, judgesDir, modules, type Judge, type ModuleName } from './pins.ts';

const goAtLeast = [1, 26, 6] as const;

class Refusal extends Error {}

/** The judges that the words of the command line stand for; a name that is neither judge nor group is refused. */
export function chosen(words: readonly string[]): Judge[] {
  const found = new Map<string, Judge>();
  for (const word of words.length === 0 ? ['test'] : words) {
    const judge = judges.filter((each) => each.name === word);
    const group: readonly Judge[] | undefined = word === 'all' ? judges : (groups as Record<string, readonly Judge[]>)[word];
    if (judge.length === 0 && group === undefined) {
      throw new Refusal(`no judge or group is called ${word}.\ngroups: all ${Object.keys(groups).join(' ')}\njudges: ${judges.map((each) => each.name).join(' ')}`);
    }
    for (const each of group ?? judge) found.set(each.name, each);
  }
  return judges.filter((each) => found.has(each.name));
}

const exec = promisify(execFile);

/** Throws with what to install when the machine cannot build the wanted judges. */
async function checkTools(wanted: readonly Judge[]): Promise<void> {
  let version: string;
  try { version = (await exec('go', ['env', 'GOVERSION'])).stdout.trim(); } catch {
    throw new Refusal(`Go is not installed: the judges are built with Go ${goAtLeast.join('.')} or later (https://go.dev/dl)`);
  }
  const numbers = /^go(\d+)\.(\d+)(?:\.(\d+))?/.exec(version)?.slice(1).map((each) => Number(each ?? 0)) ?? [0];
  const [major = 0, minor = 0, patch = 0] = numbers;
  const have = (major * 1000 + minor) * 1000 + patch;
  const need = (goAtLeast[0] * 1000 + goAtLeast[1]) * 1000 + goAtLeast[2];
  if (have < need) throw new Refusal(`Go ${goAtLeast.join('.')} or later is needed, this is ${version}`);
  if (!wanted.some((each) => each.cgo)) return;
  for (const [program, args, packageName] of [['gcc', ['--version'], 'gcc'], ['pkg-config', ['--exists', 'libseccomp'], 'pkg-config libseccomp-dev']] as const) {
    try { await exec(program, [...args]); } catch { throw new Refusal(`runc needs ${packageName}: apt-get install -y ${packageName}`); }
  }
}

/** A module's own directory, copied out of Go's read-only cache so that its go.mod can stay as it is. Returns the copy. */
async function moduleCopy(name: ModuleName): Promise<string> {
  const module = modules[name];
  const copy = path.join(cacheDir(), 'judges/src', `${name}-${module.version}${name === 'criTools' ? `-${critestImageDigest.slice(7, 15)}` : ''}`);
  if (existsSync(copy)) return copy;
  const { stdout } = await exec('go', ['mod', 'download', '-json', `${module.path}@${module.version}`], { cwd: '/' });
  const { Dir: dir, Sum: sum } = JSON.parse(stdout) as { Dir: string; Sum: string };
  if (sum !== module.sum) throw new Error(`${module.path}@${module.version} has the checksum ${sum}, not ${module.sum}`);
  const draft = `${copy}.tmp`;
  rmSync(draft, { recursive: true, force: true });
  cpSync(dir, draft, { recursive: true });
  await exec('chmod', ['-R', 'u+w', draft]);
  if (name === 'criTools') pinTestImage(path.join(draft, 'pkg/validate/consts.go'));
  renameSync(draft, copy);
  return copy;
}

/** critest's one reference by digest becomes the digest of the image that hack/images makes. */
function pinTestImage(file: string): void {
  const text = readFileSync(file, 'utf8');
  const pinned = text.replace(/(test-image-digest@)sha256:[0-9a-f]{64}/g, `$1${critestImageDigest}`);
  if (pinned === text) throw new Error(`${file} has no test-image-digest reference`);
  writeFileSync(file, pinned);
}

/** Builds one judge; its path exists afterwards. */
async function build(judge: Judge): Promise<void> {
  const own = judge.from in modules;
  const cwd = own ? await moduleCopy(judge.from as ModuleName) : path.join(import.meta.dirname, judge.from);
  const file = judgePath(judge);
  mkdirSync(path.dirname(file), { recursive: true });
  const draft = `${file}.tmp`;
  const args = [
    ...(judge.test === true ? ['test', '-c'] : ['build']), '-p', '2', '-trimpath', ...(judge.tags === undefined ? [] : ['-tags', judge.tags]),
    '-ldflags', `-s -w${judge.ldflags ?? ''}`, '-o', draft, judge.package,
  ];
  const env = { ...process.env, CGO_ENABLED: judge.cgo === true ? '1' : '0', GOFLAGS: own ? '-mod=mod -buildvcs=false' : '-buildvcs=false' };
  const child = spawn('nice', ['go', ...args], { cwd, env, stdio: ['ignore', 'ignore', 'pipe'] });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => { complaint = (complaint + text).slice(-8000); });
  const code = await new Promise<number | null>((resolve, reject) => { child.once('error', reject).once('close', resolve); });
  if (code !== 0) throw new Error(`go ${args.join(' ')} (in ${cwd}): exit ${code}\n${complaint}`);
  renameSync(draft, file);
}

/** Builds what is missing of the given names, with one line of progress each. */
export async function buildJudges(words: readonly string[], say: (line: string) => void): Promise<void> {
  const wanted = chosen(words);
  const isMissing = (each: Judge): boolean => !existsSync(judgePath(each));
  if (!wanted.some(isMissing)) { say(`judges: all ${wanted.length} are there (${judgesDir()})`); return; }
  await checkTools(wanted);
  using _one = await takeLock(path.join(cacheDir(), 'judges/lock'), { onWait: (holder) => { say(`judges: waiting for ${holder}, which builds them`); } });
  const missing = wanted.filter(isMissing);
  say(`judges: ${missing.length} of ${wanted.length} are missing in ${judgesDir()}; with empty Go caches this takes about 15 minutes, once`);
  const begin = Date.now();
  for (const [index, judge] of missing.entries()) {
    const start = Date.now();
    say(`judges: ${index + 1} of ${missing.length}  ${judge.name} …`);
    await build(judge);
    say(`judges: ${index + 1} of ${missing.length}  ${judge.name}  ${((Date.now() - start) / 1000).toFixed(1)} s, ${Math.round(statSync(judgePath(judge)).size / 1e6)} MB`);
  }
  say(`judges: done after ${Math.round((Date.now() - begin) / 1000)} s`);
}

if (import.meta.main) {
  const words = process.argv.slice(2);
  try { await buildJudges(words, (line) => { console.log(line); }); } catch (e) {
    console.error(e instanceof Refusal ? `judges: ${e.message}` : e instanceof Error ? `judges: ${e.message}` : e);
    process.exitCode = 1;
  }
}
