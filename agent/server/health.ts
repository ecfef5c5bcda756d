/** /healthz: three checks, their words as the API server's machinery writes them. */

export interface HealthAnswer {
  readonly status: number;
  readonly text: string;
}

/** Undefined: there is no such check. `syncLoop` says what is wrong with the pod workers, if anything is. */
export function healthAnswer(path: string, isVerbose: boolean, syncLoop: () => string | undefined): HealthAnswer | undefined {
  const checks: Readonly<Record<string, () => string | undefined>> = { ping: () => undefined, log: () => undefined, syncloop: syncLoop };
  if (path !== '/healthz' && path !== '/healthz/') {
    const check = checks[path.slice('/healthz/'.length)];
    if (check === undefined) return undefined;
    const problem = check();
    return problem === undefined ? { status: 200, text: 'ok' } : { status: 500, text: `internal server error: ${problem}\n` };
  }
  const results = Object.entries(checks).map(([name, check]) => ({ name, failed: check() !== undefined }));
  const lines = results.map(({ name, failed }) => (failed ? `[-]${name} failed: reason withheld\n` : `[+]${name} ok\n`)).join('');
  if (results.some(({ failed }) => failed)) return { status: 500, text: `${lines}healthz check failed\n` };
  return { status: 200, text: isVerbose ? `${lines}healthz check passed\n` : 'ok' };
}
