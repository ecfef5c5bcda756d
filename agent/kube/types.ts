/** Kubernetes objects as they travel: plain JSON with timestamps as strings, never the class instances of the generated client. */
import type {
  V1ConfigMap, V1Container, V1ContainerState, V1ContainerStatus, V1EphemeralContainer, V1Lease, V1Node, V1NodeAddress, V1NodeCondition,
  V1NodeStatus, V1ObjectMeta, V1ObjectReference, V1Pod, V1PodCondition, V1PodStatus, V1ResourceRequirements, V1Secret,
  V1SubjectAccessReview, V1Taint, V1TokenReview, V1Volume, CoreV1Event,
} from '@kubernetes/client-node/dist/gen/models/all.js';

/** What `JSON.parse` gives for a value that the generated client would turn into `T`. */
export type Json<T> = T extends Date ? string : T extends (infer Item)[] ? Json<Item>[] : T extends object ? { [Key in keyof T]: Json<T[Key]> } : T;

export type ObjectMeta = Json<V1ObjectMeta>;
export type ObjectReference = Json<V1ObjectReference>;

/** What every stored object carries; the API server always sends these. */
export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata?: ObjectMeta;
}

export type Pod = Json<V1Pod>;
export type PodStatus = Json<V1PodStatus>;
export type PodCondition = Json<V1PodCondition>;
export type Container = Json<V1Container>;
export type EphemeralContainer = Json<V1EphemeralContainer>;
export type ContainerStatus = Json<V1ContainerStatus>;
export type ContainerState = Json<V1ContainerState>;
export type ResourceRequirements = Json<V1ResourceRequirements>;
export type Volume = Json<V1Volume>;

export type Node = Json<V1Node>;
export type NodeStatus = Json<V1NodeStatus>;
export type NodeCondition = Json<V1NodeCondition>;
export type NodeAddress = Json<V1NodeAddress>;
export type Taint = Json<V1Taint>;
export type Lease = Json<V1Lease>;

export type ConfigMap = Json<V1ConfigMap>;
export type Secret = Json<V1Secret>;
export type CoreEvent = Json<CoreV1Event>;
export type TokenReview = Json<V1TokenReview>;
export type SubjectAccessReview = Json<V1SubjectAccessReview>;

export interface KubeList<T> {
  apiVersion?: string;
  kind?: string;
  metadata?: { resourceVersion?: string; continue?: string; remainingItemCount?: number };
  items: T[];
}

/** An error answer of the API server (`kind: Status`). */
export interface Status {
  kind?: string;
  status?: string;
  message?: string;
  reason?: string;
  code?: number;
  details?: { name?: string; kind?: string; retryAfterSeconds?: number };
}
