/** The agent as one half of nodelet. */
import { join } from 'node:path';
import type { Half } from '#host/daemon/half.ts';
import { type AgentConfig, agentKeys, agentProblems, idleReason } from './config.ts';

export const agent: Half<AgentConfig> = {
  name: 'agent',
  about: 'The agent: KubeletConfiguration\'s names and defaults wherever it has them.',
  keys: agentKeys,
  flags: {
    kubeconfig: { takes: 'FILE', key: 'kubeconfig', about: 'join the cluster that this kubeconfig names' },
    pods: { takes: 'PATH', key: 'staticPodPath', about: 'run the pods in this directory or file; without --kubeconfig: a standalone node' },
    'node-name': { takes: 'NAME', key: 'nodeName', about: 'name of the Node (default: the host name)' },
    socket: { takes: 'PATH', key: 'containerRuntimeEndpoint', about: 'the CRI server\'s socket', convert: (path) => `unix://${path}` },
    root: { takes: 'DIR', key: 'root', about: 'what survives a reboot', isShared: true },
  },
  problems: agentProblems,
  idleReason,
  ports: ({ port, healthzPort }) => [{ port, what: 'the agent' }, { port: healthzPort, what: 'its /healthz' }],
  lockFile: ({ root }) => join(root, 'agent.lock'),
  start: async (ctx, config) => (await import('./daemon.ts')).startAgent(ctx, config),
  wipe: async (ctx, config) => (await import('./wipe.ts')).wipeAgent(ctx, config),
};
