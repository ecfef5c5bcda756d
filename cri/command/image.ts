/** `nodelet image …`: the images of this node, beside a running daemon or without one. */
import { resolve } from 'node:path';
import type { Ctx } from '#host/ctx.ts';
import { commandLog, interruptible } from '#host/daemon/one-off.ts';
import type { Flags, Invocation, Program } from '#host/daemon/program.ts';
import { loadSettings } from '#host/daemon/settings.ts';
import { Fault } from '#host/fault.ts';
import { cri } from '../half.ts';
import { Images } from '../image/images.ts';
import { criPaths } from '../state/paths.ts';

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

export function image({ program, flags, args: [name = '', ...args] }: Invocation): Promise<number> {
  const work = works[name];
  if (work === undefined) throw new Fault('invalid', `image: expects ls, import or rm${name === '' ? '' : `, not ${name}`}`);
  if (name === 'ls' && args.length > 0) throw new Fault('invalid', `image ls: takes no argument, but got ${args.join(' ')}`);
  if (name !== 'ls' && args.length === 0) {
    throw new Fault('invalid', `image ${name}: ${name === 'rm' ? 'which image?' : 'which path? An OCI layout or a docker archive, as a directory or a tar'}`);
  }
  return withImages(program, flags, (ctx, images) => work(ctx, images, args, flags));
}

/** `work` with the images of the configured root. A running daemon notices what changes there by itself. */
async function withImages(program: Program, flags: Flags, work: (ctx: Ctx, images: Images) => Promise<void>): Promise<number> {
  const settings = await loadSettings(program, flags);
  const config = settings.of(cri);
  const { imagesDir, layersDir } = criPaths(config);
  const ctx = interruptible(commandLog(flags, settings));
  const images = await Images.open(ctx, { imagesDir, layersDir, certsDir: config.certsDir, ...config.images });
  try {
    await work(ctx, images);
    return 0;
  } finally {
    await images.close();
  }
}
