/** Security contexts: what a container may, out of what it and its pod say. Source: kubelet pkg/kubelet/kuberuntime/security_context.go. */
import {
  LinuxContainerSecurityContext, NamespaceMode, SecurityProfile_ProfileType as ProfileType, SupplementalGroupsPolicy,
  type Image, type NamespaceOption, type SecurityProfile, type SELinuxOption,
} from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { Container, Pod } from '../kube/types.ts';

/** What the host adds to the decision. */
export interface SecurityFacts {
  /** Profiles of type Localhost are looked up below this directory. */
  readonly seccompDir: string;
  readonly seccompDefault: boolean;
  /** Paths of this kind of host that the kernel has beside the usual ones (thermal throttling per CPU). */
  readonly extraMaskedPaths: readonly string[];
}

const maskedPaths = [
  '/proc/asound', '/proc/acpi', '/proc/interrupts', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/timer_list', '/proc/timer_stats',
  '/proc/sched_debug', '/proc/scsi', '/sys/firmware', '/sys/devices/virtual/powercap',
];
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** A container's pid namespace is its own unless the pod shares one or takes the host's. */
export function namespaceOptions(pod: Pod): NamespaceOption {
  const { hostNetwork, hostPID, hostIPC, shareProcessNamespace } = pod.spec ?? {};
  return {
    network: hostNetwork === true ? NamespaceMode.NODE : NamespaceMode.POD,
    ipc: hostIPC === true ? NamespaceMode.NODE : NamespaceMode.POD,
    pid: hostPID === true ? NamespaceMode.NODE : shareProcessNamespace === true ? NamespaceMode.POD : NamespaceMode.CONTAINER,
    targetId: '',
    usernsOptions: undefined,
  };
}

/** A wrapped number of the CRI; absent stays absent. */
export const int64 = (value: number | undefined): { value: bigint } | undefined => (value === undefined ? undefined : { value: BigInt(value) });

export const selinux = (options: { user?: string; role?: string; type?: string; level?: string } | undefined): SELinuxOption | undefined =>
  options === undefined ? undefined : { user: options.user ?? '', role: options.role ?? '', type: options.type ?? '', level: options.level ?? '' };

/** The pod's extra groups, fsGroup first. */
export function supplementalGroups(pod: Pod): bigint[] {
  const { fsGroup, supplementalGroups: extra } = pod.spec?.securityContext ?? {};
  return [...(fsGroup === undefined ? [] : [fsGroup]), ...(extra ?? [])].map(BigInt);
}

export const groupsPolicy = (pod: Pod): SupplementalGroupsPolicy =>
  pod.spec?.securityContext?.supplementalGroupsPolicy === 'Strict' ? SupplementalGroupsPolicy.Strict : SupplementalGroupsPolicy.Merge;

function profile(given: { type: string; localhostProfile?: string }, dir: string): SecurityProfile {
  if (given.type === 'RuntimeDefault') return { profileType: ProfileType.RuntimeDefault, localhostRef: '' };
  if (given.type !== 'Localhost') return { profileType: ProfileType.Unconfined, localhostRef: '' };
  if (given.localhostProfile === undefined || given.localhostProfile === '') throw new Fault('invalid', 'localhostProfile must be set if seccompProfile type is Localhost.');
  return { profileType: ProfileType.Localhost, localhostRef: dir === '' ? given.localhostProfile : `${dir}/${given.localhostProfile}` };
}

function seccompProfile(pod: Pod, container: Container, facts: SecurityFacts): SecurityProfile {
  const given = container.securityContext?.seccompProfile ?? pod.spec?.securityContext?.seccompProfile;
  if (given !== undefined) return profile(given, facts.seccompDir);
  return { profileType: facts.seccompDefault ? ProfileType.RuntimeDefault : ProfileType.Unconfined, localhostRef: '' };
}

function apparmorProfile(pod: Pod, container: Container): SecurityProfile | undefined {
  const given = container.securityContext?.appArmorProfile ?? pod.spec?.securityContext?.appArmorProfile;
  return given === undefined ? undefined : profile(given, '');
}

/** As whom the container runs: what it says, what its pod says, what its image says. */
interface RunAs {
  readonly user: number | undefined;
  readonly name: string;
}

/** `image` undefined: nothing is known of it. Throws Fault with the kubelet's message when runAsNonRoot cannot be kept. */
function runAs(pod: Pod, container: Container, image: Image | undefined): RunAs {
  const user = container.securityContext?.runAsUser ?? pod.spec?.securityContext?.runAsUser;
  const imageUser = image?.uid === undefined ? undefined : Number(image.uid.value);
  const imageName = image?.username ?? '';
  const nonRoot = container.securityContext?.runAsNonRoot ?? pod.spec?.securityContext?.runAsNonRoot;
  if (nonRoot === true) {
    const where = `(pod: ${JSON.stringify(`${pod.metadata?.name ?? ''}_${pod.metadata?.namespace ?? ''}(${pod.metadata?.uid ?? ''})`)}, container: ${container.name})`;
    if (user === 0) throw new Fault('invalid', `container's runAsUser breaks non-root policy ${where}`);
    if (user === undefined && imageUser === 0) throw new Fault('invalid', `container has runAsNonRoot and image will run as root ${where}`);
    if (user === undefined && imageUser === undefined && imageName !== '') {
      throw new Fault('invalid', `container has runAsNonRoot and image has non-numeric user (${imageName}), cannot verify user is non-root ${where}`);
    }
    if (user === undefined && imageUser === undefined && image !== undefined) throw new Fault('invalid', `container has runAsNonRoot and image will run as root ${where}`);
  }
  return user === undefined ? { user: imageUser, name: imageUser === undefined ? imageName : '' } : { user, name: '' };
}

/** Throws Fault('invalid') when the pod asks for what cannot be (runAsNonRoot, a Localhost profile without a name). */
export function containerSecurity(pod: Pod, container: Container, image: Image | undefined, facts: SecurityFacts): LinuxContainerSecurityContext {
  const own = container.securityContext ?? {};
  const ofPod = pod.spec?.securityContext ?? {};
  const { user, name } = runAs(pod, container, image);
  const privileged = own.privileged === true;
  const adds = own.capabilities?.add ?? [];
  const unmasked = own.procMount === 'Unmasked';
  // Privileged containers and CAP_SYS_ADMIN imply that privileges may be gained.
  const mayGain = privileged || adds.includes('SYS_ADMIN') || adds.includes('CAP_SYS_ADMIN') || own.allowPrivilegeEscalation !== false;
  const apparmor = apparmorProfile(pod, container);
  return LinuxContainerSecurityContext.fromPartial({
    capabilities: own.capabilities === undefined ? undefined : { addCapabilities: adds, dropCapabilities: own.capabilities.drop ?? [], addAmbientCapabilities: [] },
    privileged,
    namespaceOptions: namespaceOptions(pod),
    selinuxOptions: selinux(own.seLinuxOptions ?? ofPod.seLinuxOptions),
    runAsUser: int64(user),
    runAsGroup: int64(own.runAsGroup ?? ofPod.runAsGroup),
    runAsUsername: name,
    readonlyRootfs: own.readOnlyRootFilesystem === true,
    supplementalGroups: supplementalGroups(pod),
    supplementalGroupsPolicy: groupsPolicy(pod),
    noNewPrivs: !mayGain,
    maskedPaths: unmasked ? [] : [...maskedPaths, ...facts.extraMaskedPaths],
    readonlyPaths: unmasked ? [] : readonlyPaths,
    seccomp: seccompProfile(pod, container, facts),
    apparmor,
  });
}
