/** The door #cri-api: CRI v1 (k8s.io/cri-api v0.37.2) as TypeScript messages, enums and gRPC services. */
export * from './gen/api.ts';
export { connectCri, type CriClient } from './client.ts';
export { type Encoded, encoded, encodedList } from './encoded.ts';
