/** containerd 2.4's config.toml for a private instance beside everything else: its own folders, sockets and registry hosts, NRI off. */

export interface ContainerdConfig {
  /** Gets root/, state/ and the shims' sockets; short, for unix sockets end at 107 bytes. */
  readonly dir: string;
  readonly socket: string;
  /** CNI configuration. */
  readonly confDir: string;
  readonly cniBinDir: string;
  /** HOST/hosts.toml. */
  readonly certsDir: string;
  /** Name of the default runtime handler, and its program. */
  readonly runtime: string;
  readonly program: string;
  readonly sandboxImage: string;
}

export function containerdConfig({ dir, socket, confDir, cniBinDir, certsDir, runtime, program, sandboxImage }: ContainerdConfig): string {
  return `version = 4
root = '${dir}/root'
state = '${dir}/state'
oom_score = 0
imports = []
[plugins.'io.containerd.server.v1.grpc']
  address = '${socket}'
[plugins.'io.containerd.server.v1.ttrpc']
  address = '${socket}.ttrpc'
[plugins.'io.containerd.shim.v1.manager']
  socket_dir = '${dir}/s'
[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '${certsDir}'
[plugins.'io.containerd.transfer.v1.local']
  config_path = '${certsDir}'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '${sandboxImage}'
[plugins.'io.containerd.cri.v1.runtime']
  # without CAP_SYS_RESOURCE the kernel refuses a lower oom_score_adj
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['${cniBinDir}']
  conf_dir = '${confDir}'
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = '${runtime}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.${runtime}]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.${runtime}.options]
  BinaryName = '${program}'
  SystemdCgroup = false
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.internal.v1.opt']
  path = '${dir}/opt'
`;
}
