/** Dials a CRI socket. */
import { credentials } from '@grpc/grpc-js';
import { ImageServiceClient, RuntimeServiceClient } from './gen/api.ts';

export interface CriClient {
  readonly runtime: RuntimeServiceClient;
  readonly image: ImageServiceClient;
  close(): void;
}

/** Big enough for a list of every container of a crowded node (CRI-O's limit; containerd's is 16 MiB). */
export const maxMessageBytes = 80 * 1024 * 1024;

/**
 * A client for the CRI server on `endpoint` (`unix:///run/x.sock` or a bare path). Connects lazily and again after a loss.
 * Authority `localhost`, as crictl and the kubelet send it.
 */
export function connectCri(endpoint: string): CriClient {
  const target = endpoint.startsWith('unix:') ? endpoint : `unix://${endpoint}`;
  const options = {
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
    'grpc.default_authority': 'localhost',
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 3000,
  };
  const runtime = new RuntimeServiceClient(target, credentials.createInsecure(), options);
  const image = new ImageServiceClient(target, credentials.createInsecure(), options);
  return {
    runtime,
    image,
    close: () => {
      runtime.close();
      image.close();
    },
  };
}
