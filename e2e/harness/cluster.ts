/** A control plane of the test's own, on free ports, gone when the test is. */
import { startCluster, wipeCluster, type Cluster } from '../../hack/cluster/control-plane.ts';
import { planCluster } from '../../hack/cluster/plan.ts';
import { arePortsFree, privateDir } from './private.ts';
import { kubectlFor, type Kubectl } from './shell.ts';

export interface TestCluster extends Cluster { readonly kubectl: Kubectl }

/** Takes about ten seconds: one cluster per test file is a good measure. `needs('cluster')` guards it. */
export async function testCluster(): Promise<TestCluster> {
  const { dir } = await privateDir('e2e-cluster');
  const options = { dir, portOffset: await freeOffset(dir), ephemeral: true };
  try {
    const cluster = await startCluster(options);
    return { ...cluster, kubectl: kubectlFor(cluster.kubeconfig) };
  } catch (e) {
    await wipeCluster(options);
    throw e;
  }
}

/** Every port of a cluster is its usual one plus this; below the range from which the kernel gives ports to clients. */
async function freeOffset(dir: string): Promise<number> {
  for (let tries = 0; tries < 50; tries++) {
    const portOffset = 10_000 + Math.floor(Math.random() * 12_000);
    if (await arePortsFree(Object.values(planCluster({ dir, portOffset }).ports))) return portOffset;
  }
  throw new Error('no free ports for a cluster');
}
