/** Which plugin has set what: two that set the same thing are in conflict, and the request fails. Pure. */
import { Fault } from '#host/fault.ts';
import { type Field, type FieldOwners, Field as fields, type OwningPlugins } from './gen/api.ts';
import type { FieldEntry } from './resources.ts';

interface Owner {
  readonly plugin: string;
  /** It took away what an earlier plugin had set: only itself may set it again. */
  readonly cleared: boolean;
}

const nameOf = (field: Field): string => Object.entries(fields).find(([, value]) => value === field)?.[0] ?? String(field);

export class Owners {
  /** Container → field → key ('' for a field that is one thing) → owner. */
  readonly #owners = new Map<string, Map<Field, Map<string, Owner>>>();

  /** All of them or none. Fault 'invalid' names both plugins and the field. */
  claim(container: string, plugin: string, entries: readonly FieldEntry[]): void {
    const seen = new Set<string>();
    for (const { field, key } of entries) {
      const owner = this.#find(container, field, key);
      const isTwice = seen.has(`${field} ${key ?? ''}`);
      seen.add(`${field} ${key ?? ''}`);
      if (!isTwice && (owner === undefined || (owner.cleared && owner.plugin === plugin))) continue;
      throw new Fault('invalid', `NRI plugins ${plugin} and ${owner?.plugin ?? plugin} both tried to set ${nameOf(field)}${key === undefined ? '' : ` ${key}`}`);
    }
    for (const { field, key } of entries) this.#set(container, { field, ...(key === undefined ? {} : { key }) }, { plugin, cleared: false });
  }

  /** What many plugins may add to. */
  share(container: string, plugin: string, field: Field): void {
    const before = this.#find(container, field, undefined);
    this.#set(container, { field }, { plugin: before === undefined ? plugin : `${before.plugin},${plugin}`, cleared: false });
  }

  /** `plugin` takes away what another has set; what nobody has set is nobody's afterwards too. */
  clear(container: string, plugin: string, entry: FieldEntry): void {
    if (this.#find(container, entry.field, entry.key) !== undefined) this.#set(container, entry, { plugin, cleared: true });
  }

  /** By key; a field that is one thing has the key ''. */
  of(container: string, field: Field): ReadonlyMap<string, Owner> {
    return this.#owners.get(container)?.get(field) ?? new Map<string, Owner>();
  }

  /** For the validators. */
  message(): OwningPlugins {
    const word = ({ plugin, cleared }: Owner): string => (cleared ? `-${plugin}` : plugin);
    const owners = [...this.#owners].map(([container, byField]): [string, FieldOwners] => {
      const message: FieldOwners = { simple: {}, compound: {} };
      for (const [field, byKey] of byField) {
        for (const [key, owner] of byKey) {
          if (key === '') message.simple[field] = word(owner);
          else (message.compound[field] ??= { owners: {} }).owners[key] = word(owner);
        }
      }
      return [container, message];
    });
    return { owners: Object.fromEntries(owners) };
  }

  #find(container: string, field: Field, key: string | undefined): Owner | undefined {
    return this.of(container, field).get(key ?? '');
  }

  #set(container: string, { field, key }: FieldEntry, owner: Owner): void {
    const byField = this.#owners.get(container) ?? new Map<Field, Map<string, Owner>>();
    this.#owners.set(container, byField);
    const byKey = byField.get(field) ?? new Map<string, Owner>();
    byField.set(field, byKey);
    byKey.set(key ?? '', owner);
  }
}
