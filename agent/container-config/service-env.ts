/** The variables that tell a container where the services of its namespace are. Source: kubelet pkg/kubelet/envvars. */

/** The fields of a Service that matter here. */
export interface ServiceFacts {
  readonly namespace: string;
  readonly name: string;
  readonly clusterIP: string | undefined;
  readonly ports: readonly { readonly name?: string; readonly port: number; readonly protocol?: string }[];
}

const upper = (name: string): string => name.toUpperCase().replaceAll('-', '_');

/** The services of the pod's namespace (unless it wants none), and always `kubernetes` of `default`. Headless ones have no variables. */
export function serviceVariables(services: readonly ServiceFacts[], pod: { namespace: string; enableServiceLinks: boolean }): Map<string, string> {
  const isMaster = (service: ServiceFacts): boolean => service.namespace === 'default' && service.name === 'kubernetes';
  const wanted = new Map<string, ServiceFacts>();
  for (const service of services) {
    if (service.clusterIP === undefined || service.clusterIP === '' || service.clusterIP === 'None') continue;
    if (isMaster(service) && !wanted.has(service.name)) wanted.set(service.name, service);
    else if (pod.enableServiceLinks && service.namespace === pod.namespace) wanted.set(service.name, service);
  }
  const variables = new Map<string, string>();
  for (const service of [...wanted.values()].toSorted((one, other) => (one.name < other.name ? -1 : 1))) addService(variables, service);
  return variables;
}

function addService(variables: Map<string, string>, { name, clusterIP = '', ports }: ServiceFacts): void {
  const prefix = upper(name);
  const [first] = ports;
  if (first === undefined) return;
  const host = clusterIP.includes(':') ? `[${clusterIP}]` : clusterIP;
  variables.set(`${prefix}_SERVICE_HOST`, clusterIP);
  variables.set(`${prefix}_SERVICE_PORT`, String(first.port));
  for (const port of ports) if (port.name !== undefined && port.name !== '') variables.set(`${prefix}_SERVICE_PORT_${upper(port.name)}`, String(port.port));
  ports.forEach(({ port, protocol = 'TCP' }, index) => {
    const url = `${protocol.toLowerCase()}://${host}:${port}`;
    const portPrefix = `${prefix}_PORT_${port}_${protocol.toUpperCase()}`;
    if (index === 0) variables.set(`${prefix}_PORT`, url);
    variables.set(portPrefix, url);
    variables.set(`${portPrefix}_PROTO`, protocol.toLowerCase());
    variables.set(`${portPrefix}_PORT`, String(port));
    variables.set(`${portPrefix}_ADDR`, clusterIP);
  });
}
