/** Pod → PodSandboxConfig. */
import { PodSandboxConfig, Protocol, SecurityProfile_ProfileType as ProfileType, type DNSConfig, type PortMapping } from '#cri-api';
import { sandboxLabels } from '../cri/labels.ts';
import { appContainers, ephemeralContainers, initContainers, podName, podNamespace, podUid, usesHostNetwork } from '../kube/pod-facts.ts';
import type { Container, Pod } from '../kube/types.ts';
import { kernelHostname, podHostname } from './hostname.ts';
import { groupsPolicy, int64, namespaceOptions, selinux, supplementalGroups } from './security.ts';

export interface SandboxFacts {
  readonly attempt: number;
  readonly logDirectory: string;
  /** Cgroup path, or slice name with the systemd driver. Empty: the runtime decides. */
  readonly cgroupParent: string;
  readonly dns: DNSConfig;
  readonly clusterDomain: string;
}

const protocols: Readonly<Record<string, Protocol>> = { TCP: Protocol.TCP, UDP: Protocol.UDP, SCTP: Protocol.SCTP };

const allContainers = (pod: Pod): Container[] => [...initContainers(pod), ...appContainers(pod), ...ephemeralContainers(pod)];

function portMappings(pod: Pod): PortMapping[] {
  return allContainers(pod).flatMap(({ ports }) =>
    (ports ?? []).map(({ containerPort, hostPort, hostIP, protocol }) => ({
      protocol: protocols[protocol ?? 'TCP'] ?? Protocol.TCP,
      containerPort,
      hostPort: hostPort ?? 0,
      hostIp: hostIP ?? '',
    })),
  );
}

/** Throws Fault('invalid') when the pod's host name is none. */
export function sandboxConfig(pod: Pod, facts: SandboxFacts): PodSandboxConfig {
  const security = pod.spec?.securityContext ?? {};
  const hostNetwork = usesHostNetwork(pod);
  return PodSandboxConfig.fromPartial({
    metadata: { name: podName(pod), namespace: podNamespace(pod), uid: podUid(pod), attempt: facts.attempt },
    hostname: hostNetwork ? '' : kernelHostname(pod, podHostname(pod, facts.clusterDomain)),
    logDirectory: facts.logDirectory,
    dnsConfig: facts.dns,
    portMappings: hostNetwork ? [] : portMappings(pod),
    labels: sandboxLabels(pod),
    annotations: { ...pod.metadata?.annotations },
    linux: {
      cgroupParent: facts.cgroupParent,
      sysctls: Object.fromEntries((security.sysctls ?? []).map(({ name, value }) => [name, value])),
      securityContext: {
        namespaceOptions: namespaceOptions(pod),
        selinuxOptions: selinux(security.seLinuxOptions),
        runAsUser: int64(security.runAsUser),
        runAsGroup: int64(security.runAsGroup),
        supplementalGroups: supplementalGroups(pod),
        supplementalGroupsPolicy: groupsPolicy(pod),
        privileged: allContainers(pod).some((container) => container.securityContext?.privileged === true),
        seccomp: { profileType: ProfileType.RuntimeDefault, localhostRef: '' },
      },
    },
  });
}
