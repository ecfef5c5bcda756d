/** Version, Status and RuntimeConfig: what we are and whether we can work. Pure. */
import { CgroupDriver, RuntimeConfigResponse, type RuntimeHandler, type RuntimeHandlerFeatures, StatusResponse, VersionResponse } from '#cri-api';
import { stringifyInfo } from '../state/record-json.ts';

const runtimeName = 'nodelet';

/** No field may be empty, and versions must be semver: clients refuse anything else (cri-client, remote_runtime.go). */
export const version = (nodeletVersion: string): VersionResponse =>
  VersionResponse.create({ version: '0.1.0', runtimeName, runtimeVersion: nodeletVersion, runtimeApiVersion: 'v1' });

export interface StatusFacts {
  readonly network: { readonly ready: true } | { readonly ready: false; readonly message: string };
  readonly handlers: readonly { readonly name: string; readonly features: RuntimeHandlerFeatures }[];
  readonly defaultHandler: string;
  readonly config: unknown;
}

/** Two conditions at least, or the kubelet calls the runtime broken; the default handler appears a second time under its empty name. */
export function status(facts: StatusFacts, isVerbose: boolean): StatusResponse {
  const { network } = facts;
  const described = (name: string, handler: StatusFacts['handlers'][number]): RuntimeHandler => ({
    name,
    features: handler.features,
  });
  const handlers = facts.handlers.flatMap((handler) => [
    ...(handler.name === facts.defaultHandler ? [described('', handler)] : []),
    described(handler.name, handler),
  ]);
  return StatusResponse.create({
    status: {
      conditions: [
        { type: 'RuntimeReady', status: true, reason: '', message: '' },
        network.ready
          ? { type: 'NetworkReady', status: true, reason: '', message: '' }
          : { type: 'NetworkReady', status: false, reason: 'NetworkPluginNotReady', message: network.message },
      ],
    },
    runtimeHandlers: handlers,
    // Pods with a user namespace may have the host's network: see isForeignNetwork in spec/mounts.ts.
    features: { supplementalGroupsPolicy: true, mountOptions: true, userNamespacesHostNetwork: facts.handlers.some(({ features }) => features.userNamespaces) },
    info: isVerbose ? { config: stringifyInfo(facts.config) } : {},
  });
}

export const runtimeConfig = (driver: 'cgroupfs' | 'systemd'): RuntimeConfigResponse =>
  RuntimeConfigResponse.create({ linux: { cgroupDriver: driver === 'systemd' ? CgroupDriver.SYSTEMD : CgroupDriver.CGROUPFS } });
