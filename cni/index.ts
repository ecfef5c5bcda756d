/** The door of cni/: pod networks by CNI plugins. */
export { Cni, type CniOptions, type CniStatus } from './cni.ts';
export { CniError } from './errors.ts';
export { podIps } from './result.ts';
export { isAddress, isCidr, familyOf, canonical } from './address.ts';
export { bandwidthOf } from './bandwidth.ts';
export { removeBridge } from './bridge.ts';
export { ensureMasquerade, removeMasquerade, masqueradeChain } from './masquerade.ts';
export type { Attachment, AttachmentKey, Bandwidth, CniResult, DnsConfig, PortMapping } from './types.ts';
