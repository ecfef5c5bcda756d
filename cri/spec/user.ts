/** Who a container runs as: the CRI's and the image's wishes, resolved against the image's own passwd and group files (given as text). */
import { SupplementalGroupsPolicy, type LinuxContainerSecurityContext } from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { ImageDefaults } from './process.ts';

export interface ResolvedUser {
  readonly uid: number;
  readonly gid: number;
  /** With the primary group first, as containerd and crictl show it. */
  readonly additionalGids: readonly number[];
}

export interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

export interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

export interface AccountFiles {
  /** Empty when the image has no such file. */
  readonly passwd: string;
  readonly group: string;
}

const maxId = 0xffff_fffe;
const id = (text: string): number | undefined => (/^\d{1,10}$/.test(text) && Number(text) <= maxId ? Number(text) : undefined);

/** passwd(5); lines that are not entries are skipped, as libc does. */
function parsePasswd(text: string): PasswdEntry[] {
  return text.split('\n').flatMap((line) => {
    const [name, , uidText, gidText] = line.trim().split(':');
    const uid = id(uidText ?? '');
    const gid = id(gidText ?? '');
    return name === undefined || name === '' || name.startsWith('#') || uid === undefined || gid === undefined ? [] : [{ name, uid, gid }];
  });
}

/** group(5). */
function parseGroup(text: string): GroupEntry[] {
  return text.split('\n').flatMap((line) => {
    const [name, , gidText, members] = line.trim().split(':');
    const gid = id(gidText ?? '');
    return name === undefined || name === '' || name.startsWith('#') || gid === undefined
      ? []
      : [{ name, gid, members: (members ?? '').split(',').filter((member) => member !== '') }];
  });
}

interface Wanted {
  readonly user: string;
  readonly group: string | undefined;
}

/** The user the request names; else the image's USER (`user`, `user:group`); else root. */
function wantedUser(context: LinuxContainerSecurityContext | undefined, image: ImageDefaults): Wanted {
  const asked = context?.runAsUsername !== undefined && context.runAsUsername !== '' ? context.runAsUsername : context?.runAsUser?.value.toString();
  if (asked !== undefined) {
    if (context?.runAsUser !== undefined && context.runAsUsername !== '') throw new Fault('invalid', 'run_as_user and run_as_username are both set');
    return { user: asked, group: context?.runAsGroup?.value.toString() };
  }
  if (context?.runAsGroup !== undefined) throw new Fault('invalid', `user group "${context.runAsGroup.value}" is specified without user`);
  const [user, group] = (image.user ?? '').split(':');
  return { user: user === undefined || user === '' ? '0' : user, group: group === '' ? undefined : group };
}

/**
 * Numeric users need not exist in the image (their group is then 0); names must. Fault 'invalid' when a name is unknown or a number
 * is out of range.
 */
export function resolveUser(context: LinuxContainerSecurityContext | undefined, image: ImageDefaults, files: AccountFiles): ResolvedUser {
  const wanted = wantedUser(context, image);
  const groups = parseGroup(files.group);
  const entry = findUser(wanted.user, parsePasswd(files.passwd));
  const gid = wanted.group === undefined ? entry.gid : findGroup(wanted.group, groups);
  const merged = context?.supplementalGroupsPolicy !== SupplementalGroupsPolicy.Strict && entry.name !== undefined
    ? groups.filter((group) => group.members.includes(entry.name ?? '')).map((group) => group.gid)
    : [];
  const asked = (context?.supplementalGroups ?? []).map((group) => idOrFault(group.toString(), 'supplemental group'));
  return { uid: entry.uid, gid, additionalGids: [...new Set([gid, ...merged, ...asked])] };
}

/** A number is always an id, even when the image has a user of that name: run_as_user 1000 must not become root by a line `1000:x:0:0`. */
function findUser(user: string, entries: readonly PasswdEntry[]): { uid: number; gid: number; name: string | undefined } {
  if (/^-?\d+$/.test(user)) {
    const uid = idOrFault(user, 'user');
    const entry = entries.find((candidate) => candidate.uid === uid);
    return { uid, gid: entry?.gid ?? 0, name: entry?.name };
  }
  const entry = entries.find((candidate) => candidate.name === user);
  if (entry === undefined) throw new Fault('invalid', `unable to find user ${user}: no matching entries in passwd file`);
  return entry;
}

function findGroup(group: string, entries: readonly GroupEntry[]): number {
  if (/^-?\d+$/.test(group)) return idOrFault(group, 'group');
  const entry = entries.find((candidate) => candidate.name === group);
  if (entry === undefined) throw new Fault('invalid', `unable to find group ${group}: no matching entries in group file`);
  return entry.gid;
}

function idOrFault(text: string, what: string): number {
  const number = id(text);
  if (number === undefined) throw new Fault('invalid', `${what} id ${text} is out of range`);
  return number;
}
