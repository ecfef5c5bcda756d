/** Branded ids and the names that the field gives to sandboxes and containers. Pure, but for the dice. */
import { randomBytes } from 'node:crypto';
import type { ContainerMetadata, PodSandboxMetadata } from '#cri-api';

declare const brand: unique symbol;
type Branded<T, Name extends string> = T & { readonly [brand]: Name };
/** 64 lower-case hex digits. */
export type ContainerId = Branded<string, 'ContainerId'>;
/** 64 lower-case hex digits. */
export type SandboxId = Branded<string, 'SandboxId'>;

const random = (): string => randomBytes(32).toString('hex');
export const newContainerId = (): ContainerId => random() as ContainerId;
export const newSandboxId = (): SandboxId => random() as SandboxId;

/** What a caller sent as an id: a full one or a prefix; anything else matches nothing. */
export const asContainerId = (text: string): ContainerId => text as ContainerId;
export const asSandboxId = (text: string): SandboxId => text as SandboxId;

/** Unique among sandboxes, and the key under which a repeated request finds the first one. */
export const sandboxName = (metadata: PodSandboxMetadata): string =>
  `k8s_POD_${metadata.name}_${metadata.namespace}_${metadata.uid}_${metadata.attempt}`;

/** Unique among containers. */
export const containerName = (metadata: ContainerMetadata, sandbox: PodSandboxMetadata): string =>
  `k8s_${metadata.name}_${sandbox.name}_${sandbox.namespace}_${sandbox.uid}_${metadata.attempt}`;
