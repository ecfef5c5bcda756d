/** Stop signals: the CRI's enum (alphabetical, not Linux numbers), the image's STOPSIGNAL (name or number), and what kill(2) wants. */
import { constants } from 'node:os';
import { Signal } from '#cri-api';
import { Fault } from '#host/fault.ts';

const defaultStopSignal = 15;
/** glibc's and musl's SIGRTMIN: the kernel's 32 and 33 belong to the threads library. */
const realTimeMinimum = 34;
const realTimeMaximum = 64;

const prefix = 'SIGNAL_';
const nameOfEnum = new Map<Signal, string>(Object.entries(Signal).filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [value, name.slice(prefix.length)]));

/** `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`, `RTMAX-1` → Linux number. Fault 'invalid' for anything else. */
export function parseSignal(text: string): number {
  const trimmed = text.trim();
  if (/^\d+$/.test(trimmed)) {
    const number = Number(trimmed);
    if (number >= 1 && number <= realTimeMaximum) return number;
  }
  const name = trimmed.toUpperCase().replace(/^SIG/, '');
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name);
  if (realTime !== null) {
    const offset = Number(realTime[3] ?? 0) * (realTime[2] === '-' ? -1 : 1);
    const number = (realTime[1] === 'MIN' ? realTimeMinimum : realTimeMaximum) + offset;
    if (number >= realTimeMinimum && number <= realTimeMaximum) return number;
  }
  const known: Readonly<Record<string, number>> = { ...constants.signals, SIGCLD: constants.signals.SIGCHLD };
  const number = known[`SIG${name}`];
  if (number === undefined) throw new Fault('invalid', `stop signal ${JSON.stringify(text)}: no such signal`);
  return number;
}

/** The Linux number of a CRI Signal; undefined for SIGNAL_RUNTIME_DEFAULT. Fault 'invalid' for a number outside the enum. */
export function linuxSignal(signal: Signal): number | undefined {
  if (signal === Signal.SIGNAL_RUNTIME_DEFAULT) return undefined;
  const name = nameOfEnum.get(signal);
  if (name === undefined) throw new Fault('invalid', `stop_signal ${String(signal)}: no such signal`);
  return parseSignal(name.replace('PLUS', '+').replace('MINUS', '-'));
}

const enumOfLinux = new Map<number, Signal>(
  Object.values(Signal)
    .filter((signal) => signal > Signal.SIGNAL_RUNTIME_DEFAULT)
    // Aliases (SIGCLD, SIGIOT, SIGPOLL): the first name of a number stays, and the usual ones below win.
    .toReversed()
    .map((signal): [number, Signal] => [linuxSignal(signal) ?? 0, signal])
    .concat([[constants.signals.SIGIO, Signal.SIGNAL_SIGIO], [constants.signals.SIGCHLD, Signal.SIGNAL_SIGCHLD]]),
);

/** The CRI's name for a Linux signal number, for ContainerStatus.stop_signal. */
export const criSignal = (number: number): Signal => enumOfLinux.get(number) ?? Signal.SIGNAL_RUNTIME_DEFAULT;

/** The signal that asks a container to stop: the CRI config's, else the image's, else SIGTERM. An image with a wrong one gets SIGTERM, as in containerd. */
export function stopSignalOf(config: { stopSignal: Signal }, image: { stopSignal?: string | undefined }): number {
  const wanted = linuxSignal(config.stopSignal);
  if (wanted !== undefined) return wanted;
  if (image.stopSignal === undefined || image.stopSignal === '') return defaultStopSignal;
  try {
    return parseSignal(image.stopSignal);
  } catch {
    return defaultStopSignal;
  }
}
