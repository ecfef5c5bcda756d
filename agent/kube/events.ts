/** Events about pods and the node, sent the way the kubelet's recorder does: repeated ones counted, floods dropped. */
import type { ObjectReference } from './types.ts';

export type EventType = 'Normal' | 'Warning';

export interface EventRecorder {
  /** Returns at once and never throws; what cannot be delivered is logged and dropped. */
  event(about: ObjectReference, type: EventType, reason: string, message: string): void;
}
