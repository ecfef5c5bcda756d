/** All pod sandboxes. */
import type { SandboxId } from './ids.ts';
import { RecordStore } from './record-store.ts';
import { isSandboxRecord, nextSandbox, type SandboxEvent, type SandboxRecord } from './sandbox-record.ts';

export type SandboxStore = RecordStore<SandboxId, SandboxRecord, SandboxEvent>;
export const sandboxStore = (dir: string): SandboxStore => new RecordStore({ dir, noun: 'sandbox', next: nextSandbox, isWhole: isSandboxRecord });
