/** The test images behind a registry of the test's own. */
import { buildLayout, type ImageSet } from '../../hack/images/build.ts';
import { startRegistry, type Registry, type RegistryOptions } from '../../hack/registry.ts';

/** Two that every set has. */
export const busyboxImage = 'registry.k8s.io/e2e-test-images/busybox:1.29-2';
export const tagImage = 'gcr.io/k8s-staging-cri-tools/test-image-tag:test';

export type TestRegistry = Registry;

/**
 * Serves a set (default `quick`: a shell, several users, every manifest and layer form) on a free port of 127.0.0.1.
 * `startNodelet({ writeHosts: registry.writeHosts })` and startContainerd alike then pull from it under the original names.
 */
export async function testRegistry(options: Omit<RegistryOptions, 'layouts'> & { readonly set?: ImageSet } = {}): Promise<TestRegistry> {
  const { set = 'quick', ...rest } = options;
  return await startRegistry({ layouts: [await buildLayout(set)], ...rest });
}
