/** The annotations kubernetes.io/ingress-bandwidth and egress-bandwidth → the CNI capability. Pure. Source: kubelet pkg/util/bandwidth. */
import { Fault } from '#host/fault.ts';
import type { Bandwidth } from './types.ts';

const smallestBits = 1_000;
const largestBits = 1_000_000_000_000_000;
/** No limit on bursts, as containerd. */
const burstBits = 2 ** 32 - 1;

const scale: Readonly<Record<string, number>> = {
  m: 1e-3, '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18,
  Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60,
};

/** Undefined when neither is set. Throws Fault invalid. */
export function bandwidthOf(annotations: Readonly<Record<string, string>>): Bandwidth | undefined {
  const ingress = bits(annotations, 'kubernetes.io/ingress-bandwidth');
  const egress = bits(annotations, 'kubernetes.io/egress-bandwidth');
  if (ingress === undefined && egress === undefined) return undefined;
  return {
    ...(ingress === undefined ? {} : { ingressRate: ingress, ingressBurst: burstBits }),
    ...(egress === undefined ? {} : { egressRate: egress, egressBurst: burstBits }),
  };
}

function bits(annotations: Readonly<Record<string, string>>, key: string): number | undefined {
  const text = annotations[key];
  if (text === undefined) return undefined;
  const match = /^\+?(\d+(?:\.\d*)?|\.\d+)(m|k|[MGTPE]|[KMGTPE]i|[eE][+-]?\d+)?$/.exec(text);
  if (match === null) throw new Fault('invalid', `annotation ${key}: ${JSON.stringify(text)} is not a quantity`);
  const suffix = match[2] ?? '';
  const factor = /^[eE][+-]?\d/.test(suffix) ? 10 ** Number(suffix.slice(1)) : (scale[suffix] ?? 1);
  const value = Math.ceil(Number(match[1]) * factor);
  if (value < smallestBits || value > largestBits) throw new Fault('invalid', `annotation ${key}: ${text} is not between 1k and 1P bits per second`);
  return value;
}
