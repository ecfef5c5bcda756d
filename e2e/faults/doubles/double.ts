/** A program that stands in for a real one and fails as it is told to: double.sh under the real one's name, and the files that steer it. */
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** Snippets of sh for `Double.fault`. */
export const faults = {
  /** With a descendant of its own, so that killing only the double is not enough. */
  hang: 'sleep 100000 & sleep 100000 & wait',
  /** conmon and runtimes report what is on stderr, CNI plugins a JSON object on stdout. */
  refuse: 'echo "the double refuses" >&2; exit 1',
  refuseCni: `echo '{"cniVersion":"1.0.0","code":7,"msg":"the double refuses"}'; exit 1`,
  megabyteOnStderr: `head -c 1048576 /dev/zero | tr '\\0' x >&2`,
  killDaemon: 'kill -9 "$(cat "$here/daemon")"',
} as const;

export interface Double {
  /** Where the product is told that the program is. */
  readonly program: string;
  /** From now on each call of `verb` runs this snippet `when` the real program has not begun, or has ended. */
  fault(verb: string, when: 'before' | 'after', snippet: string): Promise<void>;
  /** All calls go straight to the real program again. */
  mend(): Promise<void>;
  /** The verbs of all calls so far. */
  calls(): Promise<string[]>;
  /** Whom `killDaemon` means. */
  aim(daemonPid: number): Promise<void>;
}

/** Makes the double of `real` in `dir`, under the same name. */
export async function double(dir: string, real: string): Promise<Double> {
  const program = path.join(dir, path.basename(real));
  const files = `${program}.d`;
  await mkdir(files, { recursive: true });
  await symlink(path.join(import.meta.dirname, 'double.sh'), program);
  await writeFile(path.join(files, 'real'), `${real}\n`);
  await writeFile(path.join(files, 'calls'), '');
  const snippets = new Set<string>();
  return {
    program,
    fault: async (verb, when, snippet) => {
      const file = path.join(files, `${verb}.${when}`);
      snippets.add(file);
      await writeFile(file, `${snippet}\n`);
    },
    mend: async () => {
      for (const file of snippets) await rm(file, { force: true });
    },
    calls: async () => (await readFile(path.join(files, 'calls'), 'utf8')).split('\n').filter(Boolean),
    aim: (daemonPid) => writeFile(path.join(files, 'daemon'), String(daemonPid)),
  };
}
