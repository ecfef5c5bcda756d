/** Certificates and kubeconfigs of the developer's cluster; kubeadm makes and signs all of them. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { kubernetesVersion } from '../judges/pins.ts';
import { bootstrapToken, podCidr, serviceCidr, type Plan } from './plan.ts';

const exec = promisify(execFile);

/** kubeadm's own files; JSON is YAML. */
function kubeadmConfig({ pki, bind, advertise, ports }: Plan): string {
  const parts = [
    {
      apiVersion: 'kubeadm.k8s.io/v1beta4', kind: 'InitConfiguration',
      // kubeadm refuses loopback here
      localAPIEndpoint: { advertiseAddress: advertise, bindPort: ports.api },
      nodeRegistration: { name: 'control-plane', criSocket: 'unix:///run/none.sock' },
      bootstrapTokens: [{ token: bootstrapToken, ttl: '0s', usages: ['signing', 'authentication'], groups: ['system:bootstrappers:kubeadm:default-node-token'] }],
    },
    {
      apiVersion: 'kubeadm.k8s.io/v1beta4', kind: 'ClusterConfiguration', kubernetesVersion, clusterName: 'nodelet-judge',
      encryptionAlgorithm: 'ECDSA-P256', certificatesDir: pki, controlPlaneEndpoint: `${bind}:${ports.api}`,
      networking: { podSubnet: podCidr, serviceSubnet: serviceCidr, dnsDomain: 'cluster.local' },
      // "external" keeps kubeadm from making certificates for it; it listens on loopback without TLS
      etcd: { external: { endpoints: [`http://127.0.0.1:${ports.etcd}`] } },
      apiServer: { certSANs: [...new Set(['localhost', '127.0.0.1', bind])] },
    },
    { apiVersion: 'kubelet.config.k8s.io/v1beta1', kind: 'KubeletConfiguration', cgroupDriver: 'cgroupfs', failCgroupV1: false },
  ];
  return parts.map((part) => JSON.stringify(part)).join('\n---\n');
}

/** All certificates and the four kubeconfigs of a fresh cluster. */
export async function configureCluster(plan: Plan, kubeadm: string): Promise<void> {
  const { dir, bind, ports } = plan;
  const config = path.join(dir, 'kubeadm.yaml');
  writeFileSync(config, kubeadmConfig(plan));
  await exec(kubeadm, ['init', 'phase', 'certs', 'all', '--config', config]);
  for (const who of ['admin', 'super-admin', 'controller-manager', 'scheduler']) {
    await exec(kubeadm, ['init', 'phase', 'kubeconfig', who, '--config', config, '--kubeconfig-dir', dir]);
  }
  for (const file of readdirSync(dir).filter((each) => each.endsWith('.conf'))) { // some of them name the advertised address
    const at = path.join(dir, file);
    writeFileSync(at, readFileSync(at, 'utf8').replace(/server: .*/g, `server: https://${bind}:${ports.api}`), { mode: 0o600 });
  }
}

/** A kubeconfig whose client certificate is `system:node:NAME` in the group system:nodes. Returns its path; made once per name. */
export async function nodeKubeconfig(plan: Plan, kubeadm: string, nodeName: string): Promise<string> {
  const file = path.join(plan.dir, 'nodes', `${nodeName}.conf`);
  if (existsSync(file)) return file;
  mkdirSync(path.dirname(file), { recursive: true });
  const args = ['kubeconfig', 'user', '--client-name', `system:node:${nodeName}`, '--org', 'system:nodes', '--config', path.join(plan.dir, 'kubeadm.yaml')];
  const { stdout } = await exec(kubeadm, args);
  writeFileSync(`${file}.tmp`, stdout, { mode: 0o600 });
  renameSync(`${file}.tmp`, file);
  return file;
}
