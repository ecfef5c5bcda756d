/** NRI as it runs: the socket where plugins come, and the plugins that are started with us. */
import { closeSync } from 'node:fs';
import { mkdir, readFile, rm, rmdir, stat } from 'node:fs/promises';
import { connect, createServer, type Server, Socket } from 'node:net';
import { dirname, join } from 'node:path';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { type Child, spawn } from '#host/exec.ts';
import { Fault } from '#host/fault.ts';
import { socketPair } from '#host/libc.ts';
import { namesIn } from '#host/names-in.ts';
import { madePrivate } from '#host/private-socket.ts';
import type { NriOnDemand } from './on-demand.ts';
import type { Plugin, PluginOptions } from './plugin.ts';
import { parsePluginName, type PluginName } from './plugin-name.ts';

export interface NriServiceConfig {
  readonly socket: string;
  readonly pluginDir: string;
  readonly pluginConfigDir: string;
  readonly registrationTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly disableConnections: boolean;
  readonly defaultValidator: { readonly enable: boolean };
}

export interface NriService {
  /** No plugin comes any more; those that are here are let go, and those that we started are ended. */
  stop(): Promise<void>;
}

/**
 * Returns when the plugins of `pluginDir` have joined; one that does not is logged and left out. The socket is open to root only. When somebody else
 * serves it, that is logged and no plugin can come. `ctx` is the daemon's.
 */
export async function startNri(ctx: Ctx, nri: NriOnDemand, config: NriServiceConfig, program: PluginOptions['runtime']): Promise<NriService> {
  const { registrationTimeoutMs, requestTimeoutMs } = config;
  if (config.defaultValidator.enable) await nri.load();
  const here = new Set<Plugin>();
  const admit: Admit = async (socket, own) => {
    // Of a connection that breaks before the plugin has it.
    socket.on('error', () => undefined);
    const [{ Plugin }, runtime] = await Promise.all([import('./plugin.ts'), nri.load()]);
    const plugin = new Plugin(socket, { ...own, runtime: program, registrationTimeoutMs, requestTimeoutMs, update: (request) => runtime.update(ctx, request) });
    here.add(plugin);
    void plugin.closed.then(() => here.delete(plugin));
    try {
      await runtime.admit(ctx, plugin);
    } catch (error) {
      if (!ctx.signal.aborted) ctx.log.warn({ err: error, plugin: own.name ?? plugin.id }, 'an NRI plugin could not join');
    }
  };
  for (const name of await installedPlugins(ctx, config.pluginDir)) await launch(ctx, config, name, admit);
  const server = config.disableConnections ? undefined : await listen(ctx, config.socket, (socket) => void admit(socket, { configuration: '' }));
  return {
    stop: async () => {
      server?.close();
      for (const plugin of here) plugin.close('the runtime ends');
      if (server !== undefined) await removeSocket(config.socket);
    },
  };
}

/** Executables whose names begin with an index. */
async function installedPlugins(ctx: Ctx, dir: string): Promise<PluginName[]> {
  const found: PluginName[] = [];
  for (const file of (await namesIn(dir)).toSorted()) {
    const info = await stat(join(dir, file)).catch(() => undefined);
    if (info?.isFile() !== true || (info.mode & 0o111) === 0) continue;
    const name = parsePluginName(file);
    if (name === undefined) ctx.log.warn({ file: join(dir, file) }, 'not an NRI plugin: its name does not begin with two digits and a dash');
    else found.push(name);
  }
  return found;
}

type Admit = (socket: Socket, own: Pick<PluginOptions, 'name' | 'configuration'>) => Promise<void>;

/** Its process ends with its connection: without us it has nothing to do. */
async function launch(ctx: Ctx, config: NriServiceConfig, name: PluginName, admit: Admit): Promise<void> {
  const path = join(config.pluginDir, `${name.index}-${name.name}`);
  try {
    const configuration = await configurationOf(config.pluginConfigDir, name);
    const [ours, theirs] = socketPair();
    const socket = new Socket({ fd: ours, readable: true, writable: true });
    let child: Child;
    try {
      const env = { NRI_PLUGIN_NAME: name.name, NRI_PLUGIN_IDX: name.index, NRI_PLUGIN_SOCKET: '3' };
      child = spawn({ path, args: [], env, fds: { 3: theirs } });
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      closeSync(theirs);
    }
    socket.once('close', () => child.kill('SIGKILL'));
    await admit(socket, { name, configuration });
  } catch (error) {
    ctx.log.warn({ err: error, plugin: path }, 'an installed NRI plugin could not be started');
  }
}

async function configurationOf(dir: string, { index, name }: PluginName): Promise<string> {
  for (const file of [`${index}-${name}.conf`, `${name}.conf`]) {
    try {
      return await readFile(join(dir, file), 'utf8');
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw new Fault('invalid', `configuration of NRI plugin ${index}-${name}`, error);
    }
  }
  return '';
}

async function listen(ctx: Ctx, path: string, onPlugin: (socket: Socket) => void): Promise<Server | undefined> {
  if (await isServed(path)) {
    ctx.log.warn({ socket: path }, 'another runtime serves NRI here: no plugin can join this one; cri.nri.socket names another place');
    return undefined;
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await rm(path, { force: true });
  const server = createServer(onPlugin);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  // The socket is made before `listen` returns.
  madePrivate(() => server.listen(path, resolve));
  try {
    await promise;
  } catch (cause) {
    throw new Fault('internal', `listen for NRI plugins on ${path}`, cause);
  }
  return server;
}

/** What a run that was killed left, too; nothing while somebody serves it. The folder goes if it is empty. May run twice. */
export async function removeSocket(path: string): Promise<void> {
  if (await isServed(path)) return;
  await rm(path, { force: true });
  await rmdir(dirname(path)).catch(() => undefined);
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}
