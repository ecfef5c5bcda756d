/** The house rules: which folder may import which, reserved libraries, pure files, cycles, file size and shape. Reads hack/house.json; prints `file:line: what` and fails. */
import { globSync, readFileSync } from 'node:fs';
import { basename, dirname, join, matchesGlob, normalize } from 'node:path';
import { code, exportsOf, importsOf, type Export, type Import } from './check-parse.ts';

interface House {
  /** Folder or file → row; a folder imports only from lower rows. */
  readonly levels: Readonly<Record<string, number>>;
  /** Folder or file → the doors it may use; the longest key that fits counts. */
  readonly doors: Readonly<Record<string, readonly string[]>>;
  /** What everybody may name in an `import type`. */
  readonly typeOnlyAnywhere: readonly string[];
  /** Library → the beginnings of the paths that may import it. */
  readonly reserved: Readonly<Record<string, readonly string[]>>;
  readonly pure: readonly string[];
  readonly notPure: readonly string[];
  /** The files of #host that a pure file may import. */
  readonly pureHost: readonly string[];
  readonly longAllowed: readonly string[];
  readonly exportsAllowed: readonly string[];
  readonly exportsMustBeUsed: boolean;
}

interface Source {
  readonly path: string;
  readonly text: string;
  readonly code: string;
  readonly imports: readonly Import[];
  readonly exports: readonly Export[];
  readonly isTest: boolean;
}

const house = JSON.parse(readFileSync('hack/house.json', 'utf8')) as House;
const problems: string[] = [];
const complain = (path: string, line: number, what: string): void => void problems.push(`${path}:${line}: ${what}`);

const paths = globSync(['*.ts', '{cri,agent,cni,e2e,hack}/**/*.ts'], { exclude: ['**/node_modules/**'] }).toSorted();
const sources = new Map<string, Source>(paths.map((path) => {
  const text = readFileSync(path, 'utf8');
  const stripped = code(text);
  const isTest = path.endsWith('.test.ts') || path.endsWith('.fake.ts');
  return [path, { path, text, code: stripped, imports: importsOf(stripped), exports: exportsOf(stripped), isTest }];
}));

const topOf = (path: string): string => path.split('/')[0] ?? '';
const owner = <T>(table: Readonly<Record<string, T>>, path: string): string | undefined => {
  for (let at = path.replace(/(\.root)?\.test\.ts$/, '.ts'); at !== '.'; at = dirname(at)) if (at in table) return at;
  return undefined;
};
const startsWithAny = (path: string, beginnings: readonly string[]): boolean => beginnings.some((each) => path.startsWith(each));
const fitsAny = (path: string, globs: readonly string[]): boolean => globs.some((glob) => matchesGlob(path, glob));
const isPure = (path: string): boolean => !path.endsWith('.test.ts') && fitsAny(path, house.pure) && !house.notPure.includes(path);

/** The file of ours that a specifier names, or undefined for a library. */
function targetOf(from: string, specifier: string): string | undefined {
  if (specifier.startsWith('#host/')) return `cri/host/${specifier.slice(6)}`;
  if (specifier === '#cri-api') return 'cri/api/index.ts';
  if (specifier === '#cni') return 'cni/index.ts';
  return specifier.startsWith('.') ? normalize(join(dirname(from), specifier)) : undefined;
}

function checkDoor(source: Source, found: Import): void {
  const door = found.specifier.startsWith('#host/') ? '#host' : found.specifier;
  const allowed = house.doors[owner(house.doors, source.path) ?? ''] ?? [];
  if (allowed.includes(door)) return;
  if (topOf(source.path) === 'agent' && door === '#cri-api' && found.typeOnly) return;
  if (source.isTest && (door === '#host' || (door === '#cri-api' && topOf(source.path) === 'agent'))) return;
  complain(source.path, found.line, `the door ${found.specifier} is closed here`);
}

/** What the program's entry, which composes the halves, may name of them. */
const entrances = /^(cri|agent)\/half\.ts$|^cri\/command\/commands\.ts$/;
/** End-to-end tests see the program only from outside, but share the scripts that build the judges and start a cluster. */
const mayEnter = (path: string, target: string): boolean =>
  path.startsWith('nodelet.') ? entrances.test(target) || target === 'nodelet.ts' : topOf(path) === 'e2e' && topOf(target) === 'hack';

function checkImport(source: Source, found: Import): void {
  const { path } = source;
  if (found.specifier.startsWith('#')) checkDoor(source, found);
  for (const [library, importers] of Object.entries(house.reserved)) {
    const named = found.specifier === library || found.specifier.startsWith(`${library}/`);
    if (!named || found.typeOnly || source.isTest || startsWithAny(path, importers)) continue;
    complain(path, found.line, `${library} may be imported only in ${importers.join(', ') || 'no file'}`);
  }
  const target = targetOf(path, found.specifier);
  if (target === undefined) return;
  if (!sources.has(target)) return complain(path, found.line, `${found.specifier} does not exist`);
  if (target.endsWith('.fake.ts') && !source.isTest && topOf(path) !== 'e2e') complain(path, found.line, 'a fake is for tests only');
  if (found.specifier.startsWith('#')) return;
  if (topOf(path) !== topOf(target) && !mayEnter(path, target)) {
    return complain(path, found.line, `${target} lies in another top folder; there are doors for that`);
  }
  checkDirection(source, found, target);
}

function checkDirection(source: Source, found: Import, target: string): void {
  const from = owner(house.levels, source.path);
  const to = owner(house.levels, target);
  if (from === undefined || to === undefined) return complain(source.path, found.line, `${from === undefined ? source.path : target} has no level in hack/house.json`);
  if (from === to || source.isTest) return;
  if (found.typeOnly && startsWithAny(target, house.typeOnlyAnywhere)) return;
  const [above, below] = [house.levels[from] ?? 0, house.levels[to] ?? 0];
  if (above <= below) complain(source.path, found.line, `${from} (row ${above}) may not import ${to} (row ${below}): only lower rows`);
}

const effectful = /^node:(fs|net|http|http2|https|tls|child_process|worker_threads|dgram|dns|os|process|timers)(\/|$)/;
const impure = /\b(Date\.now|Math\.random|process\.env|performance\.now|new Date\(\))/g;

function checkPure(source: Source): void {
  for (const found of source.imports) {
    if (found.typeOnly) continue;
    const target = targetOf(source.path, found.specifier);
    if (effectful.test(found.specifier) && !(found.specifier === 'node:os' && found.names.every((name) => name === 'constants'))) {
      complain(source.path, found.line, `a pure file imports ${found.specifier}`);
    }
    if (target?.startsWith('cri/host/') === true && !house.pureHost.includes(basename(target))) complain(source.path, found.line, `a pure file imports ${target}, which has effects`);
  }
  for (const match of source.code.matchAll(impure)) {
    complain(source.path, lineAt(source.code, match.index), `a pure file uses ${match[0]}; take it as an argument`);
  }
}

const lineAt = (text: string, index: number): number => text.slice(0, index).split('\n').length;

function checkShape(source: Source): void {
  const { path, text } = source;
  if (startsWithAny(path, house.longAllowed)) return;
  const lines = text.split('\n').length - 1;
  if (lines > 400) complain(path, 400, `${lines} lines; more than 400 is a missing idea`);
  const beginning = text.startsWith('#!') ? text.slice(text.indexOf('\n') + 1) : text;
  if (!beginning.startsWith('/**')) complain(path, 1, 'the first line says what the file is for: /** … */');
  if (!/^[a-z0-9-]+(\.[a-z0-9-]+)*\.ts$/.test(basename(path))) complain(path, 1, 'file names are kebab-case');
  const byDefault = source.code.indexOf('export default');
  if (byDefault >= 0) complain(path, lineAt(source.code, byDefault), 'no default exports');
}

/** Strongly connected components (Tarjan) of the graph of value imports; a component of more than one file is a cycle. */
function cycles(): string[][] {
  const graph = new Map([...sources.values()].map((source) => [
    source.path, source.imports.filter((found) => !found.typeOnly).flatMap((found) => targetOf(source.path, found.specifier) ?? []).filter((target) => sources.has(target)),
  ]));
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const found: string[][] = [];
  const visit = (path: string): number => {
    index.set(path, index.size);
    let lowest = index.size - 1;
    stack.push(path);
    for (const next of graph.get(path) ?? []) {
      if (!index.has(next)) lowest = Math.min(lowest, visit(next));
      else if (stack.includes(next)) lowest = Math.min(lowest, index.get(next) ?? lowest);
    }
    low.set(path, lowest);
    if (lowest === index.get(path)) {
      const component = stack.splice(stack.indexOf(path));
      if (component.length > 1) found.push(component);
    }
    return lowest;
  };
  for (const path of graph.keys()) if (!index.has(path)) visit(path);
  return found;
}

/** Exports that no other file names; a type that its own file uses in a signature is part of that signature. */
function unusedExports(): string[] {
  const used = new Map<string, Set<string>>();
  for (const source of sources.values()) {
    for (const found of source.imports) {
      const target = targetOf(source.path, found.specifier);
      if (target === undefined) continue;
      const names = used.getOrInsertComputed(target, () => new Set<string>());
      for (const name of found.names) names.add(name);
      // A namespace import or a lazy one: every name that the importer writes may be meant.
      if (found.names.includes('*')) for (const word of source.code.match(/[A-Za-z_$][\w$]*/g) ?? []) names.add(word);
    }
  }
  const unused: string[] = [];
  for (const source of sources.values()) {
    if (source.isTest || startsWithAny(source.path, house.exportsAllowed)) continue;
    for (const each of source.exports) {
      if (used.get(source.path)?.has(each.name) === true) continue;
      const mentions = source.code.match(new RegExp(`\\b${each.name.replaceAll('$', '\\$')}\\b`, 'g'))?.length ?? 0;
      if (each.isType && mentions > 1) continue;
      unused.push(`${source.path}:${each.line}: nobody uses the export ${each.name}`);
    }
  }
  return unused;
}

for (const source of sources.values()) {
  if (startsWithAny(source.path, house.longAllowed)) continue;
  for (const found of source.imports) checkImport(source, found);
  if (isPure(source.path)) checkPure(source);
  checkShape(source);
}
for (const cycle of cycles()) complain(cycle[0] ?? '', 1, `import cycle: ${cycle.toReversed().join(' → ')}`);
for (const script of globSync(['*.sh', '{hack,e2e}/**/*.sh', '.ci/*'])) {
  const [first = '', second = ''] = readFileSync(script, 'utf8').split('\n');
  if (!(first.startsWith('#!') ? second : first).startsWith('# ')) complain(script, 2, 'a script says in its first comment what it does');
}
for (const pattern of house.pure) if (!pattern.includes('*') && !sources.has(pattern)) console.log(`hack/house.json: note: no file ${pattern} yet`);

const unused = unusedExports();
if (house.exportsMustBeUsed) problems.push(...unused);
else for (const each of unused) console.log(`${each} (a warning until the tree is complete)`);
for (const problem of problems) console.error(problem);
console.log(`house check: ${sources.size} files, ${problems.length} problems`);
process.exitCode = problems.length > 0 ? 1 : 0;
