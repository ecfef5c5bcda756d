/** `nodelet image …`: the images of this node, beside a running daemon or without one. */
import { resolve } from 'node:path';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { createLog } from '#host/log.ts';
import type { Images } from '../cri/image/images.ts';
import type { Flags } from './flags.ts';
import { loadSettings } from './settings.ts';

const works: Readonly<Record<string, (ctx: Ctx, images: Images, args: readonly string[], flags: Flags) => Promise<void>>> = {
  ls: async (_ctx, images) => {
    const rows = images.records().flatMap(({ id, repoTags, repoDigests, sizeBytes }) =>
      (repoTags.length > 0 ? repoTags : [repoDigests[0] ?? '<none>']).map((name) => [name, id.slice(7, 19), `${(sizeBytes / 1e6).toFixed(1)} MB`]));
    const table = [['IMAGE', 'ID', 'SIZE'], ...rows.toSorted(([a = ''], [b = '']) => a.localeCompare(b))];
    const width = Math.max(...table.map(([name = '']) => name.length));
    for (const [name = '', id = '', size = ''] of table) console.log(`${name.padEnd(width)}  ${id.padEnd(12)}  ${size.padStart(9)}`.trimEnd());
  },
  import: async (ctx, images, paths, flags) => {
    const name = flags['name'];
    for (const path of paths) {
      const records = await images.import(ctx, resolve(path), typeof name === 'string' ? { name } : {});
      for (const { id, repoTags } of records) console.log(`${repoTags.join(' ') || '<none>'}  ${id}`);
    }
  },
  rm: async (ctx, images, refs) => {
    for (const ref of refs) {
      const found = images.find(ref);
      if (found === undefined) throw new Fault('not-found', `image rm: there is no image ${ref}; \`nodelet image ls\` lists them`);
      await images.remove(ctx, ref);
      console.log(found.id);
    }
  },
};

export function image(flags: Flags, [name = '', ...args]: readonly string[]): Promise<number> {
  const work = works[name];
  if (work === undefined) throw new Fault('invalid', `image: expects ls, import or rm${name === '' ? '' : `, not ${name}`}`);
  if (name === 'ls' && args.length > 0) throw new Fault('invalid', `image ls: takes no argument, but got ${args.join(' ')}`);
  if (name !== 'ls' && args.length === 0) throw new Fault('invalid', `image ${name}: ${name === 'rm' ? 'which image?' : 'which path? An OCI layout or a docker archive, as a directory or a tar'}`);
  return withImages(flags, (ctx, images) => work(ctx, images, args, flags));
}

/** `work` with the images of the configured root. A running daemon notices what changes there by itself. */
async function withImages(flags: Flags, work: (ctx: Ctx, images: Images) => Promise<void>): Promise<number> {
  const { cri: { rootDir, stateDir, certsDir, images: settings }, log } = await loadSettings(flags);
  const { criPaths } = await import('../cri/state/paths.ts');
  const { Images } = await import('../cri/image/images.ts');
  const stopping = new AbortController();
  const ctx: Ctx = { signal: stopping.signal, log: createLog({ level: flags['log-level'] === undefined ? 'warn' : log.level }) };
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stopping.abort(new Fault('canceled', `stopped by ${name}`)));
  const { imagesDir, layersDir } = criPaths({ rootDir, stateDir });
  const images = await Images.open(ctx, { imagesDir, layersDir, certsDir, ...settings });
  try {
    await work(ctx, images);
    return 0;
  } finally {
    await images.close();
  }
}
