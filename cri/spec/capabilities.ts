/** Capability sets from the CRI's add, drop and ambient lists. Nothing is asked for that the daemon does not hold itself. */
import type { Capability } from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { OciCapabilities } from '../oci/spec-types.ts';

/** In the order of their bits (linux/capability.h). */
export const allCapabilities: readonly string[] = [
  'CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'SETPCAP', 'LINUX_IMMUTABLE', 'NET_BIND_SERVICE',
  'NET_BROADCAST', 'NET_ADMIN', 'NET_RAW', 'IPC_LOCK', 'IPC_OWNER', 'SYS_MODULE', 'SYS_RAWIO', 'SYS_CHROOT', 'SYS_PTRACE', 'SYS_PACCT', 'SYS_ADMIN',
  'SYS_BOOT', 'SYS_NICE', 'SYS_RESOURCE', 'SYS_TIME', 'SYS_TTY_CONFIG', 'MKNOD', 'LEASE', 'AUDIT_WRITE', 'AUDIT_CONTROL', 'SETFCAP', 'MAC_OVERRIDE',
  'MAC_ADMIN', 'SYSLOG', 'WAKE_ALARM', 'BLOCK_SUSPEND', 'AUDIT_READ', 'PERFMON', 'BPF', 'CHECKPOINT_RESTORE',
].map((name) => `CAP_${name}`);

/** containerd's 14. Source: containerd 2.x pkg/oci/spec.go defaultUnixCaps. */
export const defaultCapabilities: readonly string[] = [
  'CHOWN', 'DAC_OVERRIDE', 'FSETID', 'FOWNER', 'MKNOD', 'NET_RAW', 'SETGID', 'SETUID', 'SETFCAP', 'SETPCAP', 'NET_BIND_SERVICE', 'SYS_CHROOT', 'KILL',
  'AUDIT_WRITE',
].map((name) => `CAP_${name}`);

/** The capabilities in a mask of /proc/PID/status (`CapBnd:` and friends, hexadecimal). */
export function capabilitiesInMask(hexadecimal: string): string[] {
  const mask = BigInt(`0x${hexadecimal.trim()}`);
  return allCapabilities.filter((_, bit) => (mask >> BigInt(bit)) % 2n === 1n);
}

/** `net_admin`, `CAP_NET_ADMIN` → `CAP_NET_ADMIN`; `ALL` stays. Fault 'invalid' for a name that Linux does not have. */
function normalize(name: string): string {
  const upper = name.toUpperCase();
  if (upper === 'ALL') return upper;
  const full = upper.startsWith('CAP_') ? upper : `CAP_${upper}`;
  if (!allCapabilities.includes(full)) throw new Fault('invalid', `unknown capability ${JSON.stringify(name)}`);
  return full;
}

/**
 * The sets of a container's first process. ALL is taken first (add, then drop), then the single drops, then the single adds win over
 * a drop of ALL, as in containerd. `held` is the daemon's own bounding set: the runtime could not grant more.
 */
export function capabilitySets(wanted: Capability | undefined, options: { privileged: boolean; held: readonly string[] }): OciCapabilities {
  const { privileged, held } = options;
  if (privileged) return sets(held, []);
  const add = (wanted?.addCapabilities ?? []).map(normalize);
  const drop = (wanted?.dropCapabilities ?? []).map(normalize);
  const ambient = (wanted?.addAmbientCapabilities ?? []).map(normalize);

  const chosen = new Set(add.includes('ALL') ? allCapabilities : defaultCapabilities);
  if (drop.includes('ALL')) chosen.clear();
  for (const name of [...add, ...ambient]) if (name !== 'ALL') chosen.add(name);
  for (const name of drop) if (name !== 'ALL') chosen.delete(name);
  const ambientSet = ambient.includes('ALL') ? allCapabilities : ambient.filter((name) => !drop.includes(name));
  for (const name of ambientSet) chosen.add(name);
  return sets(allCapabilities.filter((name) => chosen.has(name) && held.includes(name)), ambientSet.filter((name) => held.includes(name)));
}

/** Inheritable and ambient stay empty unless asked for: a non-empty inheritable set lets files raise it (CVE-2022-24769). */
const sets = (granted: readonly string[], ambient: readonly string[]): OciCapabilities => ({
  bounding: granted,
  effective: granted,
  permitted: granted,
  ...(ambient.length > 0 ? { inheritable: ambient, ambient } : {}),
});
