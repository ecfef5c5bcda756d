/**
 * How an exec or attach ended, as the client reads it from the error channel. Pure.
 *
 * Source: k8s.io/cri-streaming, remotecommand/status.go and exec.go; k8s.io/client-go, remotecommand/v4.go reads it.
 */
import { explain } from '#host/fault.ts';
import type { ProcessVersion } from './negotiate.ts';

export type Outcome =
  | { readonly kind: 'success' }
  | { readonly kind: 'exit-code'; readonly code: number }
  | { readonly kind: 'failure'; readonly what: 'executing command in' | 'attaching to'; readonly error: unknown };

/** A `metav1.Status` since version 4; before, the text of the failure, and nothing after a success. */
export function encodeOutcome(outcome: Outcome, version: ProcessVersion): Buffer {
  if (version >= 4) return Buffer.from(JSON.stringify({ metadata: {}, ...status(outcome) }));
  return Buffer.from(outcome.kind === 'success' ? '' : status(outcome).message);
}

interface Status {
  readonly status: 'Success' | 'Failure';
  readonly message: string;
  readonly reason?: string;
  readonly details?: { readonly causes: readonly { readonly reason: string; readonly message: string }[] };
  readonly code?: number;
}

function status(outcome: Outcome): Status {
  switch (outcome.kind) {
    case 'success':
      return { status: 'Success', message: '' };
    case 'exit-code':
      return {
        status: 'Failure', reason: 'NonZeroExitCode', message: `command terminated with non-zero exit code: exit status ${outcome.code}`,
        details: { causes: [{ reason: 'ExitCode', message: String(outcome.code) }] },
      };
    case 'failure':
      return { status: 'Failure', reason: 'InternalError', code: 500, message: `Internal error occurred: error ${outcome.what} container: ${explain(outcome.error)}` };
  }
}
