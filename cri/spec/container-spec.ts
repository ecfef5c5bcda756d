/** The OCI config.json of a container: every part from its own file, put together. */
import type { ContainerConfig } from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { IdMappings } from '#host/id-mapping.ts';
import type { CgroupPlace } from '../oci/cgroup-path.ts';
import type { OciSeccomp, OciSpec } from '../oci/spec-types.ts';
import { capabilitySets } from './capabilities.ts';
import { appArmorChoice, type AppArmorHost, appArmorProfile } from './apparmor.ts';
import { pathMasks } from './confinement.ts';
import { deviceSpec, type HostDevice } from './devices.ts';
import { type MountInput, planMounts, type PodFiles, type PreparedMount } from './mounts.ts';
import { containerNamespaces, type SandboxNamespaces } from './namespaces.ts';
import { processArgs, processEnv, workingDirectory, type ImageDefaults } from './process.ts';
import { ociResources, oomScoreAdj, type ResourceHost } from './resources.ts';
import { defaultSeccomp, seccompChoice } from './seccomp.ts';
import { selinuxLabels } from './selinux.ts';
import { ociMappings } from './user-namespace.ts';
import type { ResolvedUser } from './user.ts';

/** crun 1.8.1 (Debian 12) refuses versions it does not know. */
const ociVersion = '1.0.2';

/** What this machine and this process allow; found out once at start. */
export interface SpecHost extends ResourceHost {
  /** The daemon's own bounding set. */
  readonly capabilities: readonly string[];
  /** The lowest oom_score_adj this process may give: its own, or -1000 with CAP_SYS_RESOURCE. */
  readonly lowestOomScoreAdj: number;
  readonly appArmor: AppArmorHost;
  readonly selinux: boolean;
  /** Node's `process.arch`. */
  readonly arch: string;
  /**
   * Its sibling architectures, by their names in libseccomp, whose programs this kernel runs. What it does not run need not be in a filter, which a
   * runtime compiles for each architecture at every start and exec: 8 ms each with runc.
   */
  readonly abis: readonly string[];
}

/** What a container needs to know of its sandbox. */
export interface SandboxFacts {
  readonly id: string;
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly hostname: string;
  readonly privileged: boolean;
  readonly namespaces: SandboxNamespaces;
  /** Of its user namespace, when it has its own. */
  readonly mappings: IdMappings | undefined;
  readonly files: PodFiles;
  /** Of its SELinux labels. */
  readonly selinuxLevel: string;
}

export interface ContainerSpecInput {
  readonly id: string;
  readonly config: ContainerConfig;
  readonly sandbox: SandboxFacts;
  readonly image: ImageDefaults & { readonly name: string };
  readonly user: ResolvedUser;
  readonly rootfs: string;
  readonly cgroup: CgroupPlace;
  readonly mounts: readonly PreparedMount[];
  readonly volumes: readonly { readonly containerPath: string; readonly source: string }[];
  readonly devices: readonly HostDevice[];
  /** The text of a Localhost seccomp profile, already parsed. */
  readonly seccompFile: OciSeccomp | undefined;
  readonly targetPid: string | undefined;
  /** Of the OCI runtime. */
  readonly features: MountInput['features'];
  /** What a privileged container gets of the host's devices. */
  readonly hasHostDevices: boolean;
  readonly host: SpecHost;
}

/** The annotations by which tools on the host recognise a container of a pod (cAdvisor, NRI plugins, ps-like tools); keys as containerd's. */
function annotations(input: ContainerSpecInput): Record<string, string> {
  const { sandbox, config } = input;
  return {
    'io.kubernetes.cri.container-type': 'container',
    'io.kubernetes.cri.container-name': config.metadata?.name ?? '',
    'io.kubernetes.cri.image-name': input.image.name,
    'io.kubernetes.cri.sandbox-id': sandbox.id,
    'io.kubernetes.cri.sandbox-name': sandbox.name,
    'io.kubernetes.cri.sandbox-namespace': sandbox.namespace,
    'io.kubernetes.cri.sandbox-uid': sandbox.uid,
  };
}

function seccomp(input: ContainerSpecInput, capabilities: readonly string[]): OciSeccomp | undefined {
  const choice = seccompChoice(input.config.linux?.securityContext);
  if (choice.kind === 'unconfined') return undefined;
  if (choice.kind === 'default') return defaultSeccomp({ capabilities, arch: input.host.arch, abis: input.host.abis });
  return input.seccompFile;
}

/** Absent rather than undefined: JSON and exactOptionalPropertyTypes agree on that. */
const given = <K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } => (value === undefined ? {} : ({ [key]: value } as { [P in K]?: V }));

/** Fault 'invalid' names the field of the config that cannot be had. */
export function containerSpec(input: ContainerSpecInput): OciSpec {
  const { config, sandbox, image, host } = input;
  const context = config.linux?.securityContext;
  const privileged = context?.privileged ?? false;
  if (privileged && !sandbox.privileged) throw new Fault('invalid', 'no privileged container allowed in sandbox');
  const capabilities = capabilitySets(context?.capabilities, { privileged, held: host.capabilities });
  const { mounts, rootfsPropagation } = planMounts({
    mounts: input.mounts,
    features: input.features,
    volumes: input.volumes,
    pod: sandbox.files,
    readonlyRootfs: context?.readonlyRootfs ?? false,
    privileged,
    isForeignNetwork: sandbox.mappings !== undefined && sandbox.namespaces.net === undefined,
    cgroupWritable: false,
  });
  const { devices, rules } = deviceSpec(input.devices, { privileged: privileged && input.hasHostDevices });
  const labels = selinuxLabels(context, { enabled: host.selinux, level: sandbox.selinuxLevel });
  return {
    ociVersion,
    process: {
      ...(config.tty ? { terminal: true } : {}),
      user: input.user,
      args: processArgs(config, image),
      env: processEnv({ hostname: sandbox.hostname, tty: config.tty, image: image.env ?? [], envs: config.envs }),
      cwd: workingDirectory(config, image),
      capabilities,
      noNewPrivileges: context?.noNewPrivs ?? false,
      oomScoreAdj: oomScoreAdj(config.linux?.resources?.oomScoreAdj, host.lowestOomScoreAdj),
      ...given('apparmorProfile', appArmorProfile(appArmorChoice(context), host.appArmor)),
      ...given('selinuxLabel', labels?.process),
    },
    root: { path: input.rootfs, readonly: context?.readonlyRootfs ?? false },
    mounts,
    annotations: annotations(input),
    linux: {
      namespaces: containerNamespaces({
        options: context?.namespaceOptions,
        sandbox: sandbox.namespaces,
        targetPid: input.targetPid,
        ownCgroup: host.cgroupVersion === 2 && !privileged,
      }),
      ...(sandbox.mappings === undefined ? {} : { uidMappings: ociMappings(sandbox.mappings.uids), gidMappings: ociMappings(sandbox.mappings.gids) }),
      cgroupsPath: input.cgroup.cgroupsPath,
      resources: { devices: rules, ...ociResources(config.linux?.resources, host) },
      ...(devices.length > 0 ? { devices } : {}),
      ...given('rootfsPropagation', rootfsPropagation),
      ...pathMasks(context),
      ...given('seccomp', seccomp(input, capabilities.effective)),
      ...given('mountLabel', labels?.mount),
    },
  };
}
