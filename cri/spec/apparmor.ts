/** The AppArmor profile of a container, and the text of the default one. Pure. */
import { SecurityProfile_ProfileType, type LinuxContainerSecurityContext } from '#cri-api';
import { Fault } from '#host/fault.ts';

export const defaultAppArmorProfile = 'nodelet-default';

export interface AppArmorHost {
  readonly enabled: boolean;
  /** The name of the loaded default profile; undefined when none could be loaded. */
  readonly defaultProfile?: string | undefined;
}

export type AppArmorChoice = { readonly kind: 'none' } | { readonly kind: 'default' } | { readonly kind: 'named'; readonly name: string };

const localhostPrefix = 'localhost/';

/** The newer field wins over the deprecated text; silence means the default; privileged containers have none (CRI api.proto). Fault 'invalid' for other texts. */
export function appArmorChoice(context: LinuxContainerSecurityContext | undefined): AppArmorChoice {
  if (context?.privileged === true) return { kind: 'none' };
  const named = (ref: string): AppArmorChoice => {
    // critest, and kubelets that translate the old annotation, leave the prefix in.
    const name = ref.startsWith(localhostPrefix) ? ref.slice(localhostPrefix.length) : ref;
    if (name === '') throw new Fault('invalid', 'AppArmor profile: localhost without a name');
    return { kind: 'named', name };
  };
  if (context?.apparmor !== undefined) {
    switch (context.apparmor.profileType) {
      case SecurityProfile_ProfileType.Localhost:
        return named(context.apparmor.localhostRef);
      case SecurityProfile_ProfileType.Unconfined:
        return { kind: 'none' };
      default:
        return { kind: 'default' };
    }
  }
  const old = context?.apparmorProfile ?? '';
  if (old === '' || old === 'runtime/default') return { kind: 'default' };
  if (old === 'unconfined') return { kind: 'none' };
  if (old.startsWith(localhostPrefix)) return named(old);
  throw new Fault('invalid', `AppArmor profile ${JSON.stringify(old)}: must be runtime/default, unconfined or localhost/NAME`);
}

/** For config.json: undefined for none. Fault 'invalid' when a named profile is asked for on a host without AppArmor. */
export function appArmorProfile(choice: AppArmorChoice, host: AppArmorHost): string | undefined {
  if (choice.kind === 'named' && !host.enabled) throw new Fault('invalid', `AppArmor profile ${choice.name}: AppArmor is not supported on this host`);
  if (choice.kind === 'named') return choice.name;
  return choice.kind === 'default' && host.enabled ? host.defaultProfile : undefined;
}

/** `profiles` is /sys/kernel/security/apparmor/profiles: lines like `name (enforce)`. */
export const isLoadedProfile = (profiles: string, name: string): boolean =>
  name !== '' && profiles.split('\n').some((line) => line.replace(/ \([a-z]+\)$/, '') === name);

/** For apparmor_parser. `daemon` is the profile that nodelet itself is under. Source: containerd contrib/apparmor/template.go. */
export const defaultProfileText = (daemon: string): string => `profile ${defaultAppArmorProfile} flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,

  # Stopped and killed from outside, by us, the OCI runtimes and the monitor.
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (receive) peer=${daemon},
  signal (send,receive) peer=${defaultAppArmorProfile},

  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  deny mount,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,

  ptrace (trace,tracedby,read,readby) peer=${defaultAppArmorProfile},
}
`;
