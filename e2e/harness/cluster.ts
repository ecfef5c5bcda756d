/** A control plane of the test's own, on free ports, gone when the test is. */
import { startCluster, type Cluster } from '../../hack/cluster/control-plane.ts';
import { freePorts, privateDir } from './private.ts';
import { kubectlFor, type Kubectl } from './shell.ts';

export interface TestCluster extends Cluster { readonly kubectl: Kubectl }

/** Takes about ten seconds: one cluster per test file is a good measure. `needs('cluster')` guards it. */
export async function testCluster(): Promise<TestCluster> {
  const { dir } = await privateDir('e2e-cluster');
  const [probe = 0] = await freePorts(1);
  // every port of the cluster is its usual one plus this offset
  const cluster = await startCluster({ dir, portOffset: 20_000 + (probe % 20_000), ephemeral: true });
  return { ...cluster, kubectl: kubectlFor(cluster.kubeconfig) };
}
