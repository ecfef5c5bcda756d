/** Bundles the program: nodelet.ts → dist/nodelet.js, and the worker that unpacks layers beside it. Does nothing when no source changed; `--force`, `--sourcemap`, `--metafile`. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { build, type BuildOptions, type Plugin } from 'esbuild';

const top = dirname(import.meta.dirname);
const dist = join(top, 'dist');
/** What the bundle was made from, written last: without it, dist/ is not whole. */
const stamp = join(dist, 'inputs.json');
const entryPoints: Record<string, string> = { nodelet: 'nodelet.ts', 'unpack-worker': 'cri/image/unpack-worker.ts' };

/**
 * What @kubernetes/client-node imports and nodelet never reaches, because of the client it uses only KubeConfig and its credentials: the generated API
 * classes, another HTTP client (26 MB of memory), and logins for people at a desktop. They become an empty module; whoever starts to use one of them
 * gets "… is not a function" from the bundle and removes it here.
 */
const leftOut = /^(\.\/gen\/index\.js|undici|openid-client|jsonpath-plus|isomorphic-ws|ws|stream-buffers|tar-fs)$/;

/**
 * What files of static pods are checked against (agent/pod/static-files.ts): of the 700 generated classes only those that these are made of, and of them
 * only the tables of fields. 11 MB of memory less.
 */
const checkedKinds = ['V1Pod', 'V1ConfigMap', 'V1Secret'];

interface FieldTable {
  getAttributeTypeMap(): { readonly type: string }[];
}

async function fieldTables(): Promise<string> {
  const models = (await import('@kubernetes/client-node/dist/gen/models/all.js')) as unknown as Readonly<Record<string, FieldTable | undefined>>;
  const tables = new Map<string, string>();
  const add = (name: string): void => {
    const model = models[name];
    if (model === undefined || tables.has(name)) return;
    const fields = model.getAttributeTypeMap();
    tables.set(name, `export class ${name} { static getAttributeTypeMap() { return ${JSON.stringify(fields)}; } }`);
    for (const { type } of fields) for (const word of type.match(/\w+/g) ?? []) add(word);
  };
  for (const kind of checkedKinds) add(kind);
  if (checkedKinds.some((kind) => !tables.has(kind))) throw new Error(`the Kubernetes client has not all of ${checkedKinds.join(', ')}`);
  return [...tables.values()].join('\n');
}

const diet: Plugin = {
  name: 'diet',
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: leftOut }, ({ path, importer }) => (importer.includes('@kubernetes/client-node') ? { path, namespace: 'left-out' } : undefined));
    onLoad({ filter: /.*/, namespace: 'left-out' }, () => ({ contents: 'module.exports = {};', loader: 'js' }));
    onLoad({ filter: /@kubernetes\/client-node\/dist\/gen\/models\/all\.js$/ }, async () => ({ contents: await fieldTables(), loader: 'js' }));
  },
};

const settings: BuildOptions = {
  bundle: true,
  platform: 'node',
  target: 'node26',
  // CommonJS keeps the require of koffi and of Node's modules where the lazy import of a half was written; ES modules would hoist them to the start.
  format: 'cjs',
  define: { 'import.meta.url': 'bundleUrl', 'import.meta.dirname': '__dirname', 'import.meta.filename': '__filename' },
  banner: { js: "const bundleUrl = require('node:url').pathToFileURL(__filename).href;" },
  external: ['koffi'],
  legalComments: 'none',
  plugins: [diet],
  absWorkingDir: top,
  logLevel: 'warning',
};

function isFresh(): boolean {
  if (!existsSync(stamp) || Object.keys(entryPoints).some((name) => !existsSync(join(dist, `${name}.js`)))) return false;
  const builtMs = statSync(stamp).mtimeMs;
  const inputs = JSON.parse(readFileSync(stamp, 'utf8')) as string[];
  const changed = (file: string): boolean => (statSync(join(top, file), { throwIfNoEntry: false })?.mtimeMs ?? Infinity) > builtMs;
  const appeared = Object.values(entryPoints).some((file) => existsSync(join(top, file)) && !inputs.includes(file));
  return !appeared && !inputs.some(changed);
}

const { values: flags } = parseArgs({ options: { force: { type: 'boolean' }, sourcemap: { type: 'boolean' }, metafile: { type: 'boolean' } } });
if (flags.force !== true && flags.sourcemap !== true && flags.metafile !== true && isFresh()) {
  console.log('dist/ is up to date');
} else {
  const startedMs = performance.now();
  const present = Object.fromEntries(Object.entries(entryPoints).filter(([, file]) => existsSync(join(top, file))));
  // Built beside and moved into place, so that a program being started never reads half a bundle.
  const making = join(top, `dist.${process.pid}.tmp`);
  try {
    const { metafile } = await build({ ...settings, entryPoints: present, outdir: making, metafile: true, sourcemap: flags.sourcemap === true });
    mkdirSync(dist, { recursive: true });
    rmSync(stamp, { force: true });
    // What V8 compiled of the last one.
    rmSync(join(dist, 'cache'), { recursive: true, force: true });
    for (const output of Object.keys(metafile.outputs)) renameSync(join(top, output), join(dist, output.slice(output.indexOf('/') + 1)));
    // The package around it is made of ES modules.
    writeFileSync(join(dist, 'package.json'), '{ "type": "commonjs" }\n');
    if (flags.metafile === true) writeFileSync(join(dist, 'meta.json'), JSON.stringify(metafile));
    const inputs = [...Object.keys(metafile.inputs).filter((file) => !file.startsWith('left-out:')), 'hack/build.ts', 'package-lock.json'];
    writeFileSync(stamp, JSON.stringify(inputs));
    const size = (statSync(join(dist, 'nodelet.js')).size / 1e6).toFixed(1);
    console.log(`dist/nodelet.js (${size} MB) from ${inputs.length} files in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
}
