/** What a container may not see or change: masked and read-only paths, AppArmor profile, SELinux labels. */
import { SecurityProfile_ProfileType, type LinuxContainerSecurityContext, type SELinuxOption } from '#cri-api';
import { Fault } from '#host/fault.ts';

export interface PathMasks {
  readonly maskedPaths?: readonly string[];
  readonly readonlyPaths?: readonly string[];
}

/** Exactly the CRI's lists, as api.proto demands; none for privileged containers. */
export function pathMasks(context: LinuxContainerSecurityContext | undefined): PathMasks {
  if (context === undefined || context.privileged) return {};
  return {
    ...(context.maskedPaths.length > 0 ? { maskedPaths: context.maskedPaths } : {}),
    ...(context.readonlyPaths.length > 0 ? { readonlyPaths: context.readonlyPaths } : {}),
  };
}

export interface AppArmorHost {
  readonly enabled: boolean;
  /** The name of the loaded default profile; undefined when none could be loaded. */
  readonly defaultProfile?: string | undefined;
}

/** The profile's name, or undefined for none. Fault 'invalid' when a named profile is asked for on a host without AppArmor. */
export function appArmorProfile(context: LinuxContainerSecurityContext | undefined, host: AppArmorHost): string | undefined {
  if (context === undefined || context.privileged) return undefined;
  const { apparmor, apparmorProfile: old } = context;
  const named = apparmor === undefined
    ? old.startsWith('localhost/') ? old.slice('localhost/'.length) : undefined
    : apparmor.profileType === SecurityProfile_ProfileType.Localhost ? apparmor.localhostRef.replace(/^localhost\//, '') : undefined;
  if (named !== undefined) {
    if (!host.enabled) throw new Fault('invalid', `AppArmor profile ${named}: AppArmor is not supported on this host`);
    return named;
  }
  const unconfined = apparmor === undefined ? old === 'unconfined' : apparmor.profileType === SecurityProfile_ProfileType.Unconfined;
  return host.enabled && !unconfined ? host.defaultProfile : undefined;
}

/** `user:role:type:level`, or undefined where SELinux is off, nothing was asked for, or the container is privileged. */
export function selinuxLabel(options: SELinuxOption | undefined, host: { enabled: boolean; privileged: boolean }): string | undefined {
  if (!host.enabled || host.privileged || options === undefined || options.type === '') return undefined;
  return [options.user || 'system_u', options.role || 'system_r', options.type, options.level || 's0'].join(':');
}
