/** A static busybox: Debian's own binary (at once) or built from Debian's source with what the judges expect of it (about 40 s, once). */
import { execFileSync, type ExecFileSyncOptions } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import type { Busybox } from './sets.ts';

/** An ELF program without an interpreter (PT_INTERP). The name of the loader proves nothing: static glibc has it too. */
function isStatic(file: string): boolean {
  if (!existsSync(file)) return false;
  const data = readFileSync(file);
  const headersAt = Number(data.readBigUInt64LE(32));
  const headerBytes = data.readUInt16LE(54);
  return Array.from({ length: data.readUInt16LE(56) }, (_, i) => data.readUInt32LE(headersAt + i * headerBytes)).every((type) => type !== 3);
}

/** Output of a failed program becomes the message. */
function run(program: string, args: readonly string[], options: ExecFileSyncOptions = {}): string {
  try {
    return execFileSync(program, args, { stdio: ['pipe', 'pipe', 'pipe'], maxBuffer: 1 << 28, ...options }).toString();
  } catch (e) {
    const { stderr = '', stdout = '', message } = e as Error & { stderr?: Buffer | string; stdout?: Buffer | string };
    const said = `${String(stdout)}${String(stderr)}`.trim() || message;
    throw new Error(`${program} ${args.slice(0, 6).join(' ')}: ${said.slice(-3000)}`); // without cause: it would print the same again, as bytes
  }
}

const describe = (file: string): Busybox => ({ binary: readFileSync(file), applets: run(file, ['--list-full']).split('\n').filter(Boolean) });

/** The machine's static busybox, or the one of Debian's package busybox-static unpacked into `cache` (nothing is installed). */
export function debianBusybox(cache: string): Busybox {
  const unpacked = ['bin/busybox', 'usr/bin/busybox'].map((each) => path.join(cache, each));
  const present = ['/bin/busybox', ...unpacked].find(isStatic);
  if (present !== undefined) return describe(present);
  mkdirSync(cache, { recursive: true });
  try { run('apt-get', ['download', '-q', 'busybox-static'], { cwd: cache }); } catch {
    run('apt-get', ['update', '-q']);
    run('apt-get', ['download', '-q', 'busybox-static'], { cwd: cache });
  }
  for (const file of readdirSync(cache).filter((each) => each.endsWith('.deb'))) run('dpkg-deb', ['-x', path.join(cache, file), cache]);
  const found = unpacked.find(isStatic);
  if (found === undefined) throw new Error('the package busybox-static holds no static busybox');
  return describe(found);
}

/** As a `.config` says it; the rest is the source's default configuration. */
const settings = {
  CONFIG_STATIC: 'y',
  // does not compile with the headers of Linux 6.8 and later
  CONFIG_TC: 'n',
  // applets are found by PATH alone: the tests replace and forbid single ones
  CONFIG_FEATURE_SH_STANDALONE: 'n',
  CONFIG_FEATURE_PREFER_APPLETS: 'n',
  // ash keeps environment variables that are no shell names, as ConfigMap keys may be
  CONFIG_FEATURE_DI_ENV_HACK: 'y',
  CONFIG_EXTRA_LDFLAGS: '"-Wl,--build-id=none"',
} as const;

/** Builds busybox from Debian's source package in `cache`, or takes the one that is there. */
export function sourceBusybox(cache: string, say: (line: string) => void): Busybox {
  const binary = path.join(cache, `busybox-${createHash('sha256').update(JSON.stringify(settings)).digest('hex').slice(0, 8)}`);
  if (existsSync(binary)) return describe(binary);
  for (const program of ['gcc', 'make', 'dpkg-source', 'apt-get']) {
    try { run(program, ['--version']); } catch { throw new Error(`the test images need ${program}: apt-get install -y gcc libc6-dev make dpkg-dev`); }
  }
  const source = fetchSource(cache, say);
  const tree = path.join(cache, 'build');
  rmSync(tree, { recursive: true, force: true });
  mkdirSync(tree);
  const env = { ...process.env, KCONFIG_NOTIMESTAMP: '1', SOURCE_DATE_EPOCH: '1704067200', LC_ALL: 'C' };
  const make = (args: readonly string[], input = ''): string => run('make', ['-C', source, `O=${tree}`, ...args], { env, input });
  say('images: building busybox …');
  if (existsSync(path.join(source, '.config'))) run('make', ['-C', source, 'mrproper'], { env });
  make(['defconfig']);
  configure(path.join(tree, '.config'));
  make(['oldconfig'], '\n'.repeat(200));
  make([`-j${availableParallelism()}`, 'busybox']);
  copyFileSync(path.join(tree, 'busybox'), `${binary}.tmp`);
  renameSync(`${binary}.tmp`, binary);
  rmSync(tree, { recursive: true, force: true });
  return describe(binary);
}

function configure(file: string): void {
  let text = readFileSync(file, 'utf8');
  for (const [key, value] of Object.entries(settings)) {
    const line = value === 'n' ? `# ${key} is not set` : `${key}=${value}`;
    const known = new RegExp(`^(# )?${key}[= ].*$`, 'm');
    text = known.test(text) ? text.replace(known, line) : `${text}${line}\n`;
  }
  writeFileSync(file, text);
}

/** Downloads and unpacks Debian's source package with package lists of our own, so the machine's are left alone. Returns the folder. */
function fetchSource(cache: string, say: (line: string) => void): string {
  const source = path.join(cache, 'source');
  if (existsSync(source)) return source;
  const apt = path.join(cache, 'apt');
  for (const each of ['lists/partial', 'archives/partial', 'sources']) mkdirSync(path.join(apt, each), { recursive: true });
  writeSources(path.join(apt, 'sources'));
  const options = [
    'Dir::Etc::SourceList=/dev/null', `Dir::Etc::SourceParts=${apt}/sources`, `Dir::State::Lists=${apt}/lists`, `Dir::Cache=${apt}`, 'APT::Sandbox::User=root',
  ].flatMap((each) => ['-o', each]);
  say('images: downloading the source of busybox from Debian …');
  run('apt-get', [...options, 'update', '-q']);
  run('apt-get', [...options, 'source', '-q', '--download-only', 'busybox'], { cwd: apt });
  const description = readdirSync(apt).find((each) => each.endsWith('.dsc'));
  if (description === undefined) throw new Error('apt-get source busybox brought no .dsc file');
  run('dpkg-source', ['--no-check', '-x', path.join(apt, description), `${source}.tmp`]);
  renameSync(`${source}.tmp`, source);
  rmSync(apt, { recursive: true, force: true });
  return source;
}

/** The machine's own Debian sources, asked for source packages instead of binary ones. */
function writeSources(dir: string): void {
  const places = ['/etc/apt/sources.list', ...readdirIfThere('/etc/apt/sources.list.d').map((each) => path.join('/etc/apt/sources.list.d', each))].filter((each) => existsSync(each));
  let count = 0;
  for (const [index, file] of places.entries()) {
    const text = readFileSync(file, 'utf8').replaceAll(/^#.*\n/gm, '');
    const kept = file.endsWith('.sources')
      ? text.split(/\n\s*\n/).filter((each) => /^URIs:.*debian/m.test(each)).map((each) => each.trim().replace(/^Types:.*$/m, 'Types: deb-src')).join('\n\n')
      : text.split('\n').filter((each) => /^deb\s.*\/debian/.test(each)).map((each) => each.replace(/^deb\s/, 'deb-src ')).join('\n');
    if (kept === '') continue;
    writeFileSync(path.join(dir, `${index}${path.extname(file)}`), `${kept}\n`);
    count++;
  }
  if (count === 0) throw new Error('no Debian package source in /etc/apt: cannot download the source of busybox');
}

const readdirIfThere = (dir: string): string[] => (existsSync(dir) ? readdirSync(dir) : []);
