/** Where one cluster of the developer's lives: folder, addresses, ports. Pure. */
import path from 'node:path';

export interface ClusterOptions {
  /** Certificates, data, logs and pid files. An existing one is started again. */
  readonly dir: string;
  /** Added to every port, so that several run side by side. */
  readonly portOffset?: number;
  /** Other than loopback for a cluster in a network namespace. */
  readonly bind?: string;
  /** Appended; the last flag wins. */
  readonly apiServerArgs?: readonly string[];
  readonly controllerManagerArgs?: readonly string[];
  /** Kill the components when this process ends. */
  readonly ephemeral?: boolean;
}

/** What the folder, ports and addresses of one cluster are; pure. */
export interface Plan {
  readonly dir: string; readonly pki: string; readonly bind: string; readonly advertise: string;
  readonly ports: { readonly etcd: number; readonly etcdPeer: number; readonly api: number; readonly controllerManager: number; readonly scheduler: number };
}

export const podCidr = '10.244.0.0/16';
export const serviceCidr = '10.96.0.0/16';
export const bootstrapToken = 'abcdef.0123456789abcdef';

export function planCluster(options: ClusterOptions): Plan {
  const { dir, portOffset = 0, bind = '127.0.0.1' } = options;
  // The Service default/kubernetes points here. It may not be loopback; nobody dials it unless a service proxy runs.
  const advertise = bind === '127.0.0.1' ? '198.51.100.1' : bind;
  const ports = { etcd: 2379 + portOffset, etcdPeer: 2380 + portOffset, api: 6443 + portOffset, controllerManager: 10_257 + portOffset, scheduler: 10_259 + portOffset };
  return { dir: path.resolve(dir), pki: path.join(path.resolve(dir), 'pki'), bind, advertise, ports };
}
