/** `nodelet config …`: is it right, what could it say, what does it say. */
import { Fault } from '../fault.ts';
import type { Invocation } from './program.ts';
import { defaultDocument, effectiveDocument, loadSettings } from './settings.ts';

export async function config(invocation: Invocation): Promise<number> {
  const { program, flags, args: [name = '', ...args] } = invocation;
  if (name === 'check' && args.length <= 1) return check(args.length === 0 ? invocation : { ...invocation, flags: { ...flags, config: args[0] } });
  if (name === 'show' && args.length === 0) {
    process.stdout.write(effectiveDocument(program, await loadSettings(program, flags)));
    return 0;
  }
  if (name !== 'default' || args.length > 0) {
    throw new Fault('invalid', `config: expects check [FILE], default or show${name === '' ? '' : `, not ${[name, ...args].join(' ')}`}`);
  }
  process.stdout.write(defaultDocument(program));
  return 0;
}

async function check({ program, flags }: Invocation): Promise<number> {
  const settings = await loadSettings(program, flags);
  const [idle] = program.halves.flatMap((half) => half.idleReason?.(settings.of(half)) ?? []);
  const busy = program.halves.filter((half) => half.idleReason?.(settings.of(half)) === undefined).map(({ name }) => `\`nodelet ${name}\``);
  if (idle !== undefined) console.log(`note: enough for ${busy.join(' and ')}; for the others, ${idle}`);
  const read = [...new Set(settings.layers.map((layer) => layer.sourceOf([])).filter((source) => source.startsWith('/')))];
  console.log(read.length === 0 ? `there is no ${settings.file}: everything has its default` : `${read.join(', ')}: good`);
  return 0;
}
