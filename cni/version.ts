/** Versions of the CNI spec: which there are, which came with which verb. */

/** Lowest first. 0.1.0 and 0.2.0 are what a configuration without `cniVersion` means. */
export const knownVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export const newestVersion = '1.1.0';
/** What the spec makes of a missing `cniVersion`. */
export const impliedVersion = '0.1.0';

/** Three numbers, or undefined for anything else. */
export function parseVersion(text: string): readonly [number, number, number] | undefined {
  const match = /^(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?$/.exec(text);
  return match === null ? undefined : [Number(match[1]), Number(match[2] ?? 0), Number(match[3] ?? 0)];
}

/** Negative when `a` is the older one. Both must be versions. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [parseVersion(a) ?? [0, 0, 0], parseVersion(b) ?? [0, 0, 0]];
  return left[0] - right[0] || left[1] - right[1] || left[2] - right[2];
}

export const isAtLeast = (version: string, other: string): boolean => compareVersions(version, other) >= 0;

/** CHECK, and a previous result for DEL. */
export const hasCheck = (version: string): boolean => isAtLeast(version, '0.4.0');
/** STATUS and GC. */
export const hasStatus = (version: string): boolean => isAtLeast(version, '1.1.0');
