/** The CRI server as one half of nodelet. */
import type { Half } from '#host/daemon/half.ts';
import { type CriConfig, criKeys, criProblems } from './config.ts';
import { criPaths } from './state/paths.ts';

export const cri: Half<CriConfig> = {
  name: 'cri',
  about: 'The CRI server.',
  keys: criKeys,
  flags: {
    socket: { takes: 'PATH', key: 'socket', about: 'the CRI socket (default DIR of --state + /cri.sock)' },
    root: { takes: 'DIR', key: 'rootDir', about: 'what survives a reboot: images, layers, records (default /var/lib/nodelet)', isShared: true },
    state: { takes: 'DIR', key: 'stateDir', about: 'what does not: sockets, namespaces (default /run/nodelet)', isShared: true },
  },
  problems: criProblems,
  lockFile: (config) => criPaths(config).lockFile,
  start: async (ctx, config) => (await import('./daemon.ts')).startCri(ctx, config),
  wipe: async (ctx, config) => (await import('./wipe.ts')).wipeCri(ctx, config),
};
