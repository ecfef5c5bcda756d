/** crictl: exec, attach and port-forward, by both of its dialects. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runContainer, withCri } from '../harness/crictl-walk.ts';
import { criNeeds } from '../harness/cri-server.ts';
import { eventually } from '../harness/eventually.ts';
import { output } from '../harness/shell.ts';
import { needs } from '../harness/tools.ts';

/** containerd's websockets lose what comes on stdin before the process reads it. */
const dialectsOf = (server: string): readonly string[] => (server === 'containerd' ? ['spdy'] : ['spdy', 'websocket']);

test('exec, attach and port-forward carry what is said both ways', needs(...criNeeds(), 'script'), () => withCri(async (crictl, cri) => {
  const serve = 'while true; do printf "HTTP/1.0 200 OK\\r\\n\\r\\nfrom inside\\n" | nc -l -p 8080; done';
  const { pod, id } = await runContainer(crictl, cri, { name: 'talks', command: ['sh', '-c', `(${serve}) & while read word; do echo "heard $word"; done; sleep 1000`], container: { stdin: true } });
  const dialects = dialectsOf(cri.name);
  for (const dialect of dialects) {
    const said = await crictl.output(['exec', '-i', '-r', dialect, id, 'sh', '-c', 'cat; echo err >&2; exit 3'], { stdin: 'in and out' });
    assert.equal(said.stdout, 'in and out', dialect);
    assert.match(said.stderr, /err/);
    assert.notEqual(said.exitCode, 0);
    const attached = crictl.start(['attach', '-i', '-r', dialect, id]);
    attached.write(`${dialect}\n`);
    await attached.says(new RegExp(`heard ${dialect}`));
    await attached[Symbol.asyncDispose]();
    const tunnel = crictl.start(['port-forward', '-r', dialect, pod, ':8080']);
    const [, port] = await tunnel.says(/127\.0\.0\.1:(\d+) -> 8080/);
    await eventually('the page comes', async () => (await fetch(`http://127.0.0.1:${port}/`)).text(), (page) => page === 'from inside\n');
    await tunnel[Symbol.asyncDispose]();
  }
  const terminal = await output('script', ['-qec', crictl.commandLine(['exec', '-it', id, 'tty']), '/dev/null']);
  assert.match(terminal.stdout, /\/dev\/(pts\/\d+|console)/);
  await eventually('all of it is in the log', () => crictl.run(['logs', id]), (log) => dialects.every((dialect) => log.includes(`heard ${dialect}`)));
}));
