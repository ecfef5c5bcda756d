/** One holder at a time on this machine: a lock file with the holder's pid and start time, so that a killed holder does not block anybody. */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTicksOf } from '../cluster/processes.ts';

export interface LockOptions {
  /** Called once when somebody else holds the lock. */
  readonly onWait?: (holder: string) => void;
  /** Default: for ever. */
  readonly withinMs?: number;
}

/** Takes the lock, waiting while another living process holds it. Dispose gives it back; so does the end of the process. */
export async function takeLock(file: string, options: LockOptions = {}): Promise<Disposable> {
  const { onWait, withinMs = Number.POSITIVE_INFINITY } = options;
  mkdirSync(path.dirname(file), { recursive: true });
  const mine = `${process.pid} ${startTicksOf(process.pid)}`;
  const draft = `${file}.${process.pid}`;
  const deadline = Date.now() + withinMs;
  writeFileSync(draft, mine);
  try {
    for (let said = false; ;) {
      try {
        linkSync(draft, file); // atomic: fails when the file exists
        break;
      } catch (e) { if ((e as NodeJS.ErrnoException).code !== 'EEXIST') throw e; }
      const holder = read(file);
      if (holder !== undefined && !isAlive(holder)) { bury(file, holder); continue; }
      if (!said) onWait?.(`process ${holder?.split(' ')[0] ?? '?'}`);
      said = true;
      if (Date.now() > deadline) throw new Error(`${file} is held by process ${holder ?? '?'}`);
      await sleep(250);
    }
  } finally { rmSync(draft, { force: true }); }
  return { [Symbol.dispose]: () => { if (read(file) === mine) rmSync(file, { force: true }); } };
}

/** Takes a dead holder's lock away. Somebody else may have done that and taken the lock meanwhile: then it is put back. */
function bury(file: string, holder: string): void {
  const grave = `${file}.${process.pid}.dead`;
  try {
    renameSync(file, grave);
    if (read(grave) !== holder) linkSync(grave, file);
  } catch (e) { if (!['ENOENT', 'EEXIST'].includes((e as NodeJS.ErrnoException).code ?? '')) throw e; }
  rmSync(grave, { force: true });
}

function read(file: string): string | undefined {
  try { return readFileSync(file, 'utf8'); } catch { return undefined; }
}

function isAlive(holder: string): boolean {
  const [pid, startTicks] = holder.split(' ');
  return startTicksOf(Number(pid)) === startTicks;
}
