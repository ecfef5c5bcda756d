/** What `nodelet check` says about one thing, and what to do about it. Pure. */

export type Verdict = 'ok' | 'note' | 'warn' | 'fail';
export interface Finding {
  readonly topic: 'kernel' | 'cgroups' | 'security' | 'programs' | 'network' | 'storage' | 'machine';
  readonly verdict: Verdict;
  readonly message: string;
  /** A command, a package, or what to change. */
  readonly remedy?: string;
}
export type Judged = Omit<Finding, 'topic'>;

export const ok = (message: string): Judged => ({ verdict: 'ok', message });
/** Worth knowing; everything that is asked of nodelet still works, or is refused in clear words. */
export const note = (message: string, remedy?: string): Judged => ({ verdict: 'note', message, ...(remedy !== undefined && { remedy }) });
/** Some pods will not work. */
export const warn = (message: string, remedy: string): Judged => ({ verdict: 'warn', message, remedy });
/** nodelet will not work. */
export const fail = (message: string, remedy: string): Judged => ({ verdict: 'fail', message, remedy });

/** Where a remedy is written down so that it outlives a reboot. */
export const modulesFile = '/etc/modules-load.d/nodelet.conf';
export const sysctlFile = '/etc/sysctl.d/90-nodelet.conf';
