/** The log: parts with levels of their own that change while it runs, and lines for people. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fault } from './fault.ts';
import { prettyLine } from './log-pretty.ts';
import { createLog, PartLogs } from './log.ts';

function collected(format: 'json' | 'pretty'): { lines: string[]; logs: PartLogs } {
  const lines: string[] = [];
  return { lines, logs: new PartLogs(createLog({ level: 'info', format, destination: { write: (line) => void lines.push(line) } })) };
}

test('levels hold per part and change at once, for loggers that were handed out long ago too', () => {
  const { lines, logs } = collected('json');
  const [cri, agent] = [logs.of('cri'), logs.of('agent')];
  const told = (): string[] => {
    cri.debug('c');
    agent.debug('a');
    logs.root.debug('r');
    return lines.splice(0).map((line) => (JSON.parse(line) as { msg: string }).msg);
  };
  assert.deepEqual(told(), []);
  logs.setLevels('info', { cri: 'debug' });
  assert.deepEqual(told(), ['c']);
  logs.setLevels('debug', { agent: 'warn' });
  assert.deepEqual(told(), ['c', 'r']);
});

test('a pretty line has time, level, part and message first, then the fields, and an error with its stack below', () => {
  const { lines, logs } = collected('pretty');
  logs.of('cri').warn({ sandbox: 'abc', words: 'two words', count: 2 }, 'hello');
  assert.match(lines[0] ?? '', /^\d\d:\d\d:\d\d\.\d{3} WARN {2}\[cri\] hello sandbox=abc words="two words" count=2\n$/);
  logs.root.error({ err: new Fault('internal', 'outer', new Error('inner')) }, 'failed');
  assert.match(lines[1] ?? '', /ERROR failed err=\{"type":"Fault","message":"outer","kind":"internal","cause":\{"type":"Error","message":"inner"\}\}\n +at .*log\.test\.ts/);
});

test('what is no JSON passes as it is', () => assert.equal(prettyLine('plain\n'), 'plain\n'));
