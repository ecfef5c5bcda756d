/** What this machine and this process allow a container: found out once at start. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Cgroups } from '#host/cgroup-types.ts';
import { isErrno } from '#host/errno.ts';
import { knowsX32 } from '#host/libc.ts';
import { capabilitiesInMask } from '../spec/capabilities.ts';
import type { SpecHost } from '../spec/container-spec.ts';

/** `appArmorProfile` names the loaded default profile, undefined when there is none. */
export async function specHost(facts: { cgroups: Pick<Cgroups, 'version' | 'controllers'>; appArmorProfile: string | undefined }): Promise<SpecHost> {
  const { version, controllers } = facts.cgroups;
  const status = await readFile('/proc/self/status', 'utf8');
  const capabilities = capabilitiesInMask(/^CapBnd:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0');
  const ownScore = Number((await readFile('/proc/self/oom_score_adj', 'utf8')).trim());
  return {
    cgroupVersion: version,
    controllers,
    swapAccounting: version === 2 ? existsSync('/proc/swaps') : existsSync('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes'),
    capabilities,
    lowestOomScoreAdj: capabilities.includes('CAP_SYS_RESOURCE') ? -1000 : ownScore,
    appArmor: { enabled: (await firstLetter('/sys/module/apparmor/parameters/enabled')) === 'Y', defaultProfile: facts.appArmorProfile },
    selinux: existsSync('/sys/fs/selinux/enforce'),
    arch: process.arch,
    abis: siblingAbis(),
  };
}

/** Whether an ARM processor runs 32-bit programs cannot be asked cheaply, so that stays in. */
const siblingAbis = (): string[] =>
  process.arch === 'arm64' ? ['SCMP_ARCH_ARM'] : [...(existsSync('/proc/sys/abi/vsyscall32') ? ['SCMP_ARCH_X86'] : []), ...(knowsX32() ? ['SCMP_ARCH_X32'] : [])];

async function firstLetter(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).slice(0, 1);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return '';
    throw error;
  }
}
