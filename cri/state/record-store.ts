/**
 * Records of one kind: in memory, and one atomically replaced JSON file each. A change is next → save → publish, under the id's lock;
 * what readers see has been written, unless it was only observed.
 */
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '#host/atomic-file.ts';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { removeTree } from '#host/remove-tree.ts';
import { KeyedLock } from './keyed-lock.ts';
import { type OwnedResource, sameResource } from './owned-resource.ts';
import { parseRecord, stringifyRecord } from './record-json.ts';

interface AnyRecord {
  readonly version: number;
  readonly id: string;
  readonly name: string;
  readonly owns: readonly OwnedResource[];
  readonly state: { readonly name: string };
}

export class RecordStore<Id extends string, R extends AnyRecord & { readonly id: Id }, Event> {
  readonly #dir: string;
  readonly #noun: string;
  readonly #next: (record: R, event: Event) => R;
  readonly #isWhole: (value: unknown) => value is R;
  readonly #records = new Map<string, R>();
  readonly #lock = new KeyedLock<string>();
  readonly #changed: ((record: R, before: R | undefined) => void)[] = [];
  readonly #deleted: ((record: R) => void)[] = [];

  /** `dir` gets one directory per id with record.json in it; `noun` is for messages; `isWhole` tells whether what was read is a record. */
  constructor(options: { dir: string; noun: string; next: (record: R, event: Event) => R; isWhole: (value: unknown) => value is R }) {
    this.#dir = options.dir;
    this.#noun = options.noun;
    this.#next = options.next;
    this.#isWhole = options.isWhole;
  }

  /** Reads what is on disk. A record that is damaged, or of a version that we do not know, is logged and its directory left for `orphans`. */
  async load(ctx: Ctx): Promise<void> {
    // Its own directories are closed; a pod's root must be able to pass here.
    await mkdir(this.#dir, { recursive: true, mode: 0o711 });
    for (const id of await readdir(this.#dir)) {
      try {
        const record = parseRecord(await readFile(this.#fileOf(id), 'utf8'));
        if (!this.#isWhole(record) || record.id !== id) throw new Fault('internal', `not a record of this version: ${JSON.stringify(record)?.slice(0, 200)}`);
        this.#records.set(id, record);
      } catch (error) {
        if (!isErrno(error, 'ENOENT')) ctx.log.warn({ err: error, file: this.#fileOf(id) }, `unreadable ${this.#noun} record`);
      }
    }
  }

  /** Directories without a readable record: left by an interrupted creation or removal. */
  async orphans(): Promise<string[]> {
    return (await readdir(this.#dir)).filter((id) => !this.#records.has(id)).map((id) => join(this.#dir, id));
  }

  /** By full id or unique prefix; Fault not-found, or invalid when the prefix fits several. */
  get(idOrPrefix: string): R {
    const found = this.find(idOrPrefix);
    if (found === undefined) throw new Fault('not-found', `${this.#noun} ${JSON.stringify(idOrPrefix)} not found`);
    return found;
  }

  /** As `get`, undefined when there is none. */
  find(idOrPrefix: string): R | undefined {
    const exact = this.#records.get(idOrPrefix);
    if (exact !== undefined || idOrPrefix === '' || idOrPrefix.length >= 64) return exact;
    const matches = [...this.#records.values()].filter((record) => record.id.startsWith(idOrPrefix));
    if (matches.length > 1) throw new Fault('invalid', `${this.#noun} id ${JSON.stringify(idOrPrefix)} fits ${matches.length} ${this.#noun}s`);
    return matches[0];
  }

  list(): R[] {
    return [...this.#records.values()];
  }

  findByName(name: string): R | undefined {
    return this.list().find((record) => record.name === name);
  }

  /** Called after each change that was written, with the record as it is and as it was (undefined: it is new). */
  onChange(listener: (record: R, before: R | undefined) => void): void {
    this.#changed.push(listener);
  }

  /** Called when a record is gone, with what it was. */
  onDelete(listener: (record: R) => void): void {
    this.#deleted.push(listener);
  }

  /** Writes a new record, before anything that it owns is made. */
  async add(record: R): Promise<void> {
    try {
      await mkdir(join(this.#dir, record.id), { recursive: true, mode: 0o700 });
      await this.#save(record);
    } catch (error) {
      await removeTree(join(this.#dir, record.id));
      throw error;
    }
  }

  /** Applies an event. Fault not-found when the record is gone. */
  update(id: Id, event: Event): Promise<R> {
    return this.#change(id, (record) => this.#next(record, event));
  }

  /**
   * As `update`, for what has happened already and start-up would find out again: when it cannot be written (a full disk) it is logged, and
   * holds all the same.
   */
  observe(ctx: Ctx, id: Id, event: Event): Promise<R> {
    return this.#change(id, (record) => this.#next(record, event), (error) => ctx.log.error({ err: error, [this.#noun]: id }, 'a record cannot be written'));
  }

  /** Notes that resources are gone. */
  disown(id: Id, ...resources: readonly OwnedResource[]): Promise<R> {
    return this.#change(id, (record) => ({ ...record, owns: record.owns.filter((owned) => !resources.some((gone) => sameResource(owned, gone))) }));
  }

  /** Forgets a record that owns nothing any more, and removes its directory. Absent is success. */
  async delete(id: Id): Promise<void> {
    using _ = await this.#lock.hold(id);
    await removeTree(join(this.#dir, id));
    const record = this.#records.get(id);
    this.#records.delete(id);
    if (record !== undefined) for (const listener of this.#deleted) listener(record);
  }

  async #change(id: Id, change: (record: R) => R, onUnwritten?: (error: unknown) => void): Promise<R> {
    using _ = await this.#lock.hold(id);
    const before = this.#records.get(id);
    if (before === undefined) throw new Fault('not-found', `${this.#noun} ${JSON.stringify(id)} not found`);
    const after = change(before);
    if (after !== before) await this.#save(after, onUnwritten);
    return after;
  }

  async #save(record: R, onUnwritten?: (error: unknown) => void): Promise<void> {
    try {
      await writeFileAtomic(this.#fileOf(record.id), stringifyRecord(record));
    } catch (error) {
      if (onUnwritten === undefined) throw error;
      onUnwritten(error);
    }
    const before = this.#records.get(record.id);
    this.#records.set(record.id, record);
    for (const listener of this.#changed) listener(record, before);
  }

  #fileOf(id: string): string {
    return join(this.#dir, id, 'record.json');
  }
}
