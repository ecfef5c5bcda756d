/** Reloading: what is taken over, what is named, and that a wrong file changes nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Layer, parseLayer } from '../config/files.ts';
import { Fault } from '../fault.ts';
import { createLog } from '../log.ts';
import { car, engine } from './halves.fake.ts';
import { Reloader } from './reload.ts';
import { type Settings, settingsOf } from './settings.ts';

function settings(text: string): Settings {
  const layer = parseLayer('f.yaml', text, ({ message }) => { throw new Fault('invalid', message); });
  return { ...settingsOf(car, [layer as Layer], false), file: '/nowhere/f.yaml', dropInDir: '/nowhere/f.d' }; // parsed, or thrown above
}

/** A program that runs with `text`, to be told of other texts. */
function running(text: string) {
  const lines: string[] = [];
  const ctx = { signal: new AbortController().signal, log: createLog({ level: 'info', destination: { write: (line) => void lines.push(line) } }) };
  const taken: string[] = [];
  let now = text;
  const reloader = new Reloader(settings(text), {
    composition: car,
    load: async () => settings(now),
    takers: {
      log: async (_ctx, next, changed) => void taken.push(`log ${changed.join()} ${next.log.level}`),
      engine: async (_ctx, next, changed) => {
        if (next.of(engine).intake.dir === '/bad') throw new Fault('precondition', 'no such directory');
        taken.push(`engine ${changed.join()}`);
      },
    },
    begins: () => taken.push('begins'),
    ended: () => taken.push('ended'),
  });
  const reload = async (next: string, isAsked = true): Promise<{ taken: string[]; said: string }> => {
    now = next;
    await reloader.reload(ctx, isAsked);
    const said = lines.splice(0).map((line) => {
      const { msg, why, changed } = JSON.parse(line) as { msg: string; why?: string; changed?: string[] };
      return [msg, why, changed?.join()].filter(Boolean).join(' | ');
    });
    return { taken: taken.splice(0), said: said.join('\n') };
  };
  return { reload };
}

test('live keys are taken over, others are named until they have their old value again', async () => {
  const { reload } = running('log: {level: info}');
  assert.deepEqual(await reload('log: {level: debug}\nengine: {fuel: gas, intake: {dir: /n}}'), {
    taken: ['begins', 'log level debug', 'engine intake.dir', 'ended'],
    said: 'configuration taken over | log.level,engine.intake.dir\nneeds a restart: engine.fuel',
  });
  const { said } = await reload('log: {level: warn}\nengine: {fuel: gas, intake: {dir: /n}}');
  assert.equal(said, 'configuration taken over | log.level\nneeds a restart: engine.fuel');
  assert.equal((await reload('log: {level: warn}\nengine: {intake: {dir: /n}}')).said, 'configuration read: nothing changed');
});

test('a wrong file changes nothing, says why once, and the right one after it is taken', async () => {
  const { reload } = running('');
  const bad = await reload('log: {level: loud}\nengine: {rootDir: x}', false);
  assert.deepEqual(bad.taken, []);
  assert.match(bad.said, /^configuration refused: everything stays as it was \| 2 problems[^]*log\.level: must be[^]*engine\.rootDir: must be/);
  assert.deepEqual(await reload('log: {level: loud}\nengine: {rootDir: x}', false), { taken: [], said: '' });
  assert.deepEqual((await reload('log: {level: debug}', false)).taken, ['begins', 'log level debug', 'ended']);
});

test('a value that cannot be used is refused in its own words, and tried again', async () => {
  const { reload } = running('');
  assert.match((await reload('engine: {intake: {dir: /bad}}', false)).said, /refused.*\| no such directory$/);
  assert.deepEqual((await reload('engine: {intake: {dir: /good}}', false)).taken, ['begins', 'engine intake.dir', 'ended']);
});

test('a look at files that did not change does and says nothing; who asks is answered', async () => {
  const { reload } = running('log: {level: info}');
  assert.deepEqual(await reload('log: {level: info}', false), { taken: [], said: '' });
  assert.deepEqual(await reload('log: {level: info}', true), { taken: ['begins', 'ended'], said: 'configuration read: nothing changed' });
});

test('a section that does not run here is nobody\'s business', async () => {
  assert.deepEqual(await running('').reload('wheels: {count: 7}', false), { taken: [], said: '' });
});
