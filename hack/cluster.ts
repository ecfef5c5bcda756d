/** npm run cluster [-- up|status|down|wipe|node NAME] [--dir DIR] [--port-offset N]: a control plane on loopback for trying things; prints its KUBECONFIG. */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { describeCluster, startCluster, stopCluster, wipeCluster } from './cluster/control-plane.ts';
import type { ClusterOptions } from './cluster/plan.ts';
import { buildJudges } from './judges/build.ts';
import { cacheDir } from './judges/pins.ts';

const usage = `npm run cluster                  start it (builds what is missing), print KUBECONFIG
npm run cluster -- status        what runs
npm run cluster -- down          stop exactly what was started; the state stays
npm run cluster -- wipe          down, and delete everything
npm run cluster -- node NAME     a kubeconfig for the node NAME (client certificate system:node:NAME)
options: --dir DIR  --port-offset N (for a second one beside it)`;

async function up(options: ClusterOptions): Promise<Awaited<ReturnType<typeof startCluster>>> {
  await buildJudges(['cluster'], (line) => { console.error(line); });
  return await startCluster(options);
}

async function main(argv: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({ args: [...argv], allowPositionals: true, options: { dir: { type: 'string' }, 'port-offset': { type: 'string' }, help: { type: 'boolean' } } });
  const [command = 'up', name] = positionals;
  const portOffset = Number(values['port-offset'] ?? 0);
  if (!Number.isInteger(portOffset) || portOffset < 0 || portOffset > 50_000) throw new Error('--port-offset must be a whole number from 0 to 50000');
  const options: ClusterOptions = { dir: values.dir ?? path.join(cacheDir(), portOffset === 0 ? 'cluster' : `cluster-${portOffset}`), portOffset };
  switch (values.help === true ? 'help' : command) {
    case 'up': {
      const begin = Date.now();
      const cluster = await up(options);
      console.error(`ready after ${((Date.now() - begin) / 1000).toFixed(1)} s at ${cluster.server}`);
      console.log(`KUBECONFIG=${cluster.kubeconfig}`);
      return;
    }
    case 'node': {
      if (name === undefined) throw new Error('which node? npm run cluster -- node NAME');
      console.log(`KUBECONFIG=${await (await up(options)).nodeKubeconfig(name)}`);
      return;
    }
    case 'status': for (const line of describeCluster(options)) console.log(line); return;
    case 'down': await stopCluster(options); return;
    case 'wipe': await wipeCluster(options); return;
    case 'help': console.log(usage); return;
    default: throw new Error(`unknown command ${command}\n${usage}`);
  }
}

if (import.meta.main) {
  try { await main(process.argv.slice(2)); } catch (e) {
    console.error(`cluster: ${e instanceof Error ? e.message : String(e)}`);
    process.exitCode = 1;
  }
}
