/** Paths of the API objects that a node touches. */

const core = '/api/v1';
const segment = encodeURIComponent;

export const podsPath = `${core}/pods`;
export const nodesPath = `${core}/nodes`;
export const podPath = (namespace: string, name: string): string => `${core}/namespaces/${segment(namespace)}/pods/${segment(name)}`;
export const podStatusPath = (namespace: string, name: string): string => `${podPath(namespace, name)}/status`;
export const namespacePodsPath = (namespace: string): string => `${core}/namespaces/${segment(namespace)}/pods`;
export const nodePath = (name: string): string => `${nodesPath}/${segment(name)}`;
export const nodeStatusPath = (name: string): string => `${nodePath(name)}/status`;
export const configMapsPath = (namespace: string): string => `${core}/namespaces/${segment(namespace)}/configmaps`;
export const secretsPath = (namespace: string): string => `${core}/namespaces/${segment(namespace)}/secrets`;
export const eventsPath = (namespace: string): string => `${core}/namespaces/${segment(namespace)}/events`;
export const serviceAccountTokenPath = (namespace: string, name: string): string =>
  `${core}/namespaces/${segment(namespace)}/serviceaccounts/${segment(name)}/token`;
export const servicesPath = `${core}/services`;
const leaseNamespace = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases';
export const nodeLeasesPath = leaseNamespace;
export const nodeLeasePath = (name: string): string => `${leaseNamespace}/${segment(name)}`;
export const tokenReviewsPath = '/apis/authentication.k8s.io/v1/tokenreviews';
export const subjectAccessReviewsPath = '/apis/authorization.k8s.io/v1/subjectaccessreviews';
