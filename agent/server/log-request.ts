/** A request for a container's log: its query, checked, and the container it means. Texts as the kubelet's, byte for byte. */
import { Fault } from '#host/fault.ts';
import { timestampNs } from '../logs/line.ts';
import type { LogOptions } from '../logs/read.ts';
import type { PodStatus } from '../kube/types.ts';
import type { Checked } from './checked.ts';

export interface LogRequest {
  readonly options: LogOptions;
  readonly previous: boolean;
}

const undecodable = { status: 400, text: '{"message": "Unable to decode query."}' } as const;
const invalid = { status: 422, text: '{"message": "Invalid request."}' } as const;
const streams: Readonly<Record<string, LogOptions['stream'] | 'all'>> = { All: 'all', Stdout: 'stdout', Stderr: 'stderr' };

/** Source: kubelet pkg/kubelet/server/server.go getContainerLogs, core validation ValidatePodLogOptions. */
export function parseLogRequest(query: URLSearchParams, nowNs: bigint): Checked<LogRequest> {
  const tail = query.get('tail'); // what very old clients send
  const tailText = tail === null ? query.get('tailLines') : tail === 'all' ? null : tail;
  const [tailLines, limitBytes, sinceSeconds] = [wholeNumber(tailText), wholeNumber(query.get('limitBytes')), wholeNumber(query.get('sinceSeconds'))];
  const sinceText = query.get('sinceTime');
  const sinceTimeNs = sinceText === null || sinceText === '' ? undefined : (timestampNs(sinceText) ?? Number.NaN);
  if ([tailLines, limitBytes, sinceSeconds, sinceTimeNs].some(Number.isNaN)) return undecodable;
  const streamText = query.get('stream') ?? 'All';
  const stream = streams[streamText];
  if ((tailLines ?? 0) < 0 || (limitBytes ?? 1) < 1 || (sinceSeconds ?? 1) < 1) return invalid;
  if ((sinceSeconds !== undefined && sinceTimeNs !== undefined) || stream === undefined || (stream !== 'all' && tailLines !== undefined)) return invalid;
  const sinceNs = sinceSeconds === undefined ? sinceTimeNs : nowNs - BigInt(sinceSeconds) * 1_000_000_000n;
  return {
    value: {
      previous: isTrue(query.get('previous')),
      options: {
        follow: isTrue(query.get('follow')),
        timestamps: isTrue(query.get('timestamps')),
        ...(tailLines !== undefined && { tailLines }),
        ...(limitBytes !== undefined && { limitBytes }),
        ...(typeof sinceNs === 'bigint' && { sinceNs }),
        ...(stream !== 'all' && { stream }),
      },
    },
  };
}

/** Undefined for an absent one, NaN for what is no whole number. */
const wholeNumber = (text: string | null): number | undefined => (text === null ? undefined : /^-?\d+$/.test(text) ? Number(text) : Number.NaN);

/** As API machinery reads booleans of a query: everything but these is true. */
const isTrue = (text: string | null): boolean => text !== null && text !== '0' && text.toLowerCase() !== 'false';

/** The id (`runtime://id`) of the container whose log is meant. Throws Fault('precondition') while there is none. Source: kubelet validateContainerLogStatus. */
export function logContainerId(podName: string, status: PodStatus | undefined, container: string, previous: boolean): string {
  const what = `container ${JSON.stringify(container)} in pod ${JSON.stringify(podName)}`;
  const all = [...(status?.containerStatuses ?? []), ...(status?.initContainerStatuses ?? []), ...(status?.ephemeralContainerStatuses ?? [])];
  const found = all.find(({ name }) => name === container);
  if (found === undefined) throw new Fault('precondition', `${what} is not available`);
  const last = found.lastState?.terminated;
  const { running, terminated, waiting } = found.state ?? {};
  if (previous) {
    if (!last?.containerID) throw new Fault('precondition', `previous terminated ${what} not found`);
    return last.containerID;
  }
  if (running !== undefined) return found.containerID ?? '';
  if (terminated !== undefined || last !== undefined) {
    const id = terminated?.containerID || last?.containerID;
    if (!id) throw new Fault('precondition', `${what} is terminated`);
    return id;
  }
  if (waiting === undefined) throw new Fault('precondition', `${what} is waiting to start - no logs yet`);
  const reasons: Readonly<Record<string, string>> = { ErrImagePull: "image can't be pulled", ImagePullBackOff: 'trying and failing to pull image' };
  throw new Fault('precondition', `${what} is waiting to start: ${reasons[waiting.reason ?? ''] ?? waiting.reason ?? ''}`);
}
