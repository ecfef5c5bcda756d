/** The seccomp filter of a container: RuntimeDefault (containerd's profile), Localhost (a file's text) or none. */
import { SecurityProfile_ProfileType, type LinuxContainerSecurityContext } from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { OciSeccomp, OciSyscallRule } from '../oci/spec-types.ts';
import { allowedByCapability, alwaysAllowed, byArchitecture } from './seccomp-default.ts';

export type SeccompChoice = { readonly kind: 'unconfined' } | { readonly kind: 'default' } | { readonly kind: 'file'; readonly path: string };

/** The newer field wins over the deprecated string; unset means unconfined; privileged containers have no filter (CRI api.proto). */
export function seccompChoice(context: LinuxContainerSecurityContext | undefined): SeccompChoice {
  if (context === undefined || context.privileged) return { kind: 'unconfined' };
  if (context.seccomp !== undefined) {
    switch (context.seccomp.profileType) {
      case SecurityProfile_ProfileType.RuntimeDefault:
        return { kind: 'default' };
      case SecurityProfile_ProfileType.Localhost:
        return localhost(context.seccomp.localhostRef);
      default:
        return { kind: 'unconfined' };
    }
  }
  const path = context.seccompProfilePath;
  if (path === '' || path === 'unconfined') return { kind: 'unconfined' };
  if (path === 'runtime/default' || path === 'docker/default') return { kind: 'default' };
  if (path.startsWith('localhost/')) return localhost(path.slice('localhost/'.length));
  throw new Fault('invalid', `invalid seccomp profile ${JSON.stringify(path)}`);
}

function localhost(path: string): SeccompChoice {
  if (!path.startsWith('/')) throw new Fault('invalid', `seccomp profile ${JSON.stringify(path)}: the path must be absolute`);
  return { kind: 'file', path };
}

const allow = 'SCMP_ACT_ALLOW';
const errno = 'SCMP_ACT_ERRNO';
const enosys = 38;
/** CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET. */
const cloneNamespaces = 0x7e020000;

/** RuntimeDefault for a process that holds `capabilities`, on this kind of machine (`process.arch`); `abis` as `SpecHost` has it. */
export function defaultSeccomp(options: { capabilities: readonly string[]; arch: string; abis: readonly string[] }): OciSeccomp {
  const { capabilities, arch, abis } = options;
  const platform = byArchitecture[arch];
  const granted = capabilities.flatMap((name) => allowedByCapability[name] ?? []);
  const rules: OciSyscallRule[] = [
    { names: [...new Set([...alwaysAllowed, 'process_vm_readv', 'process_vm_writev', 'ptrace', ...(platform?.allowed ?? []), ...granted])], action: allow },
    // Every address family but AF_ALG (38) and AF_VSOCK (40).
    { names: ['socket'], action: allow, args: [{ index: 0, value: 38, op: 'SCMP_CMP_LT' }] },
    { names: ['socket'], action: allow, args: [{ index: 0, value: 39, op: 'SCMP_CMP_EQ' }] },
    { names: ['socket'], action: allow, args: [{ index: 0, value: 40, op: 'SCMP_CMP_GT' }] },
    ...[0x0, 0x8, 0x20000, 0x20008, 0xffffffff].map((value) => ({ names: ['personality'], action: allow, args: [{ index: 0, value, op: 'SCMP_CMP_EQ' }] })),
  ];
  if (!capabilities.includes('CAP_SYS_ADMIN')) {
    rules.push(
      { names: ['clone'], action: allow, args: [{ index: 0, value: cloneNamespaces, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }] },
      // Its flags lie in memory where a filter cannot look: ENOSYS makes libc fall back to clone.
      { names: ['clone3'], action: errno, errnoRet: enosys },
    );
  }
  return { defaultAction: errno, ...(platform === undefined ? {} : { architectures: platform.architectures.filter((name, index) => index === 0 || abis.includes(name)) }), syscalls: rules };
}

/** A Localhost profile: the `seccomp` object of the OCI runtime specification as JSON. Fault 'invalid' names the file. */
export function parseSeccomp(text: string, path: string): OciSeccomp {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Fault('invalid', `seccomp profile ${path}: not JSON`, cause);
  }
  if (typeof value !== 'object' || value === null || !('defaultAction' in value) || typeof value.defaultAction !== 'string') {
    throw new Fault('invalid', `seccomp profile ${path}: defaultAction is missing`);
  }
  if ('syscalls' in value && value.syscalls !== null && !Array.isArray(value.syscalls)) throw new Fault('invalid', `seccomp profile ${path}: syscalls is not a list`);
  // The OCI runtime checks the rest; what it does not know it names in its own error.
  return value as OciSeccomp;
}
