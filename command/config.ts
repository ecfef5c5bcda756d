/** `nodelet config …`: is it right, what could it say, what does it say. */
import { Fault } from '#host/fault.ts';
import { idleReason } from '../agent/config.ts';
import type { Flags } from './flags.ts';
import { defaultDocument, effectiveDocument, loadSettings } from './settings.ts';

export async function config(flags: Flags, [name = '', ...args]: readonly string[]): Promise<number> {
  if (name === 'check' && args.length <= 1) return check(args.length === 0 ? flags : { ...flags, config: args[0] });
  if (name === 'show' && args.length === 0) {
    process.stdout.write(effectiveDocument(await loadSettings(flags)));
    return 0;
  }
  if (name !== 'default' || args.length > 0) throw new Fault('invalid', `config: expects check [FILE], default or show${name === '' ? '' : `, not ${[name, ...args].join(' ')}`}`);
  process.stdout.write(defaultDocument());
  return 0;
}

async function check(flags: Flags): Promise<number> {
  const settings = await loadSettings(flags);
  const idle = idleReason(settings.agent);
  if (idle !== undefined) console.log(`note: enough for \`nodelet cri\`; for the others, ${idle}`);
  const read = [...new Set(settings.layers.map((layer) => layer.sourceOf([])).filter((source) => source.startsWith('/')))];
  console.log(read.length === 0 ? `there is no ${settings.file}: everything has its default` : `${read.join(', ')}: good`);
  return 0;
}
