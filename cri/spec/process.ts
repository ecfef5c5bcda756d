/** What a container runs: arguments, environment and working directory out of the image and the CRI config. */
import type { ContainerConfig, KeyValue } from '#cri-api';
import { Fault } from '#host/fault.ts';

/** The part of an image's configuration that a container inherits. */
export interface ImageDefaults {
  readonly user?: string | undefined;
  readonly env?: readonly string[] | undefined;
  readonly entrypoint?: readonly string[] | undefined;
  readonly cmd?: readonly string[] | undefined;
  readonly workingDir?: string | undefined;
  readonly volumes?: readonly string[] | undefined;
  readonly stopSignal?: string | undefined;
}

const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * A command replaces ENTRYPOINT and drops CMD; arguments alone replace CMD.
 * Source: CRI api.proto ContainerConfig, containerd internal/cri/opts/spec_opts.go WithProcessArgs. Fault 'invalid' when nothing is left to run.
 */
export function processArgs(config: Pick<ContainerConfig, 'command' | 'args'>, image: ImageDefaults): string[] {
  const entrypoint = image.entrypoint?.length === 1 && image.entrypoint[0] === '' ? [] : (image.entrypoint ?? []);
  const command = config.command.length > 0 ? config.command : entrypoint;
  const args = config.args.length > 0 || config.command.length > 0 ? config.args : (image.cmd ?? []);
  const all = [...command, ...args];
  if (all.length === 0) throw new Fault('invalid', 'no command specified');
  for (const word of all) refuseNul(word, 'argument');
  return all;
}

/** Defaults, then the image's, then the CRI's; a later value takes the place of an earlier one of the same name. */
export function processEnv(options: { hostname: string; tty: boolean; image: readonly string[]; envs: readonly KeyValue[] }): string[] {
  const env = new Map<string, string>([['PATH', defaultPath]]);
  if (options.tty) env.set('TERM', 'xterm');
  if (options.hostname !== '') env.set('HOSTNAME', options.hostname);
  for (const entry of options.image) {
    const at = entry.indexOf('=');
    // A name without "=" in an image is what `docker run -e NAME` left behind: it sets nothing.
    if (at > 0) env.set(entry.slice(0, at), entry.slice(at + 1));
  }
  for (const { key, value } of options.envs) {
    if (key === '' || key.includes('=')) throw new Fault('invalid', `environment variable name ${JSON.stringify(key)} is not valid`);
    env.set(key, Buffer.from(value).toString('utf8'));
  }
  return [...env].map(([key, value]) => {
    refuseNul(key + value, `environment variable ${key}`);
    return `${key}=${value}`;
  });
}

/** Absolute; `/` when neither says anything. */
export function workingDirectory(config: Pick<ContainerConfig, 'workingDir'>, image: ImageDefaults): string {
  const cwd = config.workingDir !== '' ? config.workingDir : (image.workingDir ?? '');
  if (cwd === '') return '/';
  return cwd.startsWith('/') ? cwd : `/${cwd}`;
}

function refuseNul(text: string, what: string): void {
  if (text.includes('\0')) throw new Fault('invalid', `${what} contains a NUL byte`);
}
