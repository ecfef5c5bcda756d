/** Why a container could not be started: what its status says while it waits. */
import { Fault } from '#host/fault.ts';

export type WaitingReason =
  | 'ErrImagePull'
  | 'ImagePullBackOff'
  | 'ErrImageNeverPull'
  | 'InvalidImageName'
  | 'ImageInspectError'
  | 'RegistryUnavailable'
  | 'SignatureValidationFailed'
  | 'CreateContainerConfigError'
  | 'CreateContainerError'
  | 'RunContainerError'
  | 'PostStartHookError'
  | 'CrashLoopBackOff';

/** `message` is what the status shows below the reason. */
export class StartError extends Fault {
  readonly reason: WaitingReason;
  /** When trying again makes sense; undefined leaves it to the worker. */
  readonly retryInMs: number | undefined;
  constructor(reason: WaitingReason, message: string, options: { cause?: unknown; retryInMs?: number } = {}) {
    super('unavailable', message, options.cause);
    this.name = 'StartError';
    this.reason = reason;
    this.retryInMs = options.retryInMs;
  }
}
