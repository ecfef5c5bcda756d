/**
 * What an OCI runtime can do, by its own word: `runc features` and the like (runtime-spec features.md). Programs that are older than that command
 * (runc 1.1, crun 1.8) are judged by their version. Pure.
 */

export interface RuntimeFeatures {
  /** The mount option `rro`. */
  readonly recursiveReadOnly: boolean;
  /** `uidMappings` of a mount. */
  readonly idmappedMounts: boolean;
  /** Built with checkpoint and restore; the program criu is needed besides. */
  readonly checkpoint: boolean;
}

const checkpointAnnotations = ['org.opencontainers.runc.checkpoint.enabled', 'run.oci.crun.checkpoint.enabled'];

/** `text` is undefined when the command failed. */
export function runtimeFeatures(version: string, text: string | undefined): RuntimeFeatures {
  const told = parseJson(text);
  if (told === undefined) return { recursiveReadOnly: knowsRecursiveReadOnly(version), idmappedMounts: false, checkpoint: false };
  const options = told['mountOptions'];
  const annotations = told['annotations'];
  return {
    recursiveReadOnly: Array.isArray(options) && options.includes('rro'),
    idmappedMounts: at(told, 'linux', 'mountExtensions', 'idmap', 'enabled') === true,
    checkpoint: checkpointAnnotations.some((name) => at(annotations, name) === 'true'),
  };
}

function parseJson(text: string | undefined): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text ?? '');
    return typeof value === 'object' && value !== null && 'ociVersionMax' in value ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

const at = (value: unknown, ...path: readonly string[]): unknown =>
  path.reduce<unknown>((found, key) => (typeof found === 'object' && found !== null ? (found as Record<string, unknown>)[key] : undefined), value);

/** runc 1.1, crun 1.4 (and Linux 5.12, which everything we support has). */
function knowsRecursiveReadOnly(version: string): boolean {
  const match = /^(\w+) (\d+)\.(\d+)/.exec(version);
  if (match === null) return false;
  const [, program, major, minor] = match;
  const since = program === 'runc' ? 1 : program === 'crun' ? 4 : Infinity;
  return Number(major) > 1 || (Number(major) === 1 && Number(minor) >= since);
}
