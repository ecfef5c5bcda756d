/** Talking to systemd (or whoever sets NOTIFY_SOCKET): readiness, reloads, status, watchdog. Source: sd_notify(3), sd_watchdog_enabled(3). */
import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ctx } from './ctx.ts';
import { withTimeout } from './ctx.ts';
import { isErrno } from './errno.ts';
import { explain } from './fault.ts';
import { connectSync, send, SOCK_CLOEXEC, SOCK_NONBLOCK, socket } from './libc.ts';
import { unixAddress } from './socket-address.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_NOSIGNAL = 0x4000;

/** Undefined for what is no unix socket: other kinds of address are for virtual machines' managers. */
export const notifyAddress = (name: string): Buffer | undefined => (/^[/@].{1,106}$/.test(name) ? unixAddress(name) : undefined);

export interface WatchdogPlan {
  readonly everyMs: number;
  /** False: nobody waits for us, only the status text is refreshed. */
  readonly isWatched: boolean;
}
const statusEveryMs = 30_000;

/** Half of what the manager allows. The variables count only for the process that they name. */
export function watchdogPlan(env: { readonly [name: string]: string | undefined }, pid: number): WatchdogPlan {
  const micros = Number(env['WATCHDOG_USEC']);
  const isOurs = env['WATCHDOG_PID'] === undefined || Number(env['WATCHDOG_PID']) === pid;
  if (!Number.isInteger(micros) || micros <= 0 || !isOurs) return { everyMs: statusEveryMs, isWatched: false };
  return { everyMs: Math.max(1, micros / 2000), isWatched: true };
}

export class ServiceManager {
  readonly #address: Buffer | undefined;
  readonly #plan: WatchdogPlan;
  #status = '';

  constructor(env: { readonly [name: string]: string | undefined }, pid: number) {
    this.#address = notifyAddress(env['NOTIFY_SOCKET'] ?? '');
    this.#plan = watchdogPlan(env, pid);
  }

  ready(): void {
    this.#send('READY=1');
  }

  stopping(): void {
    this.#send('STOPPING=1\nSTATUS=stopping; containers keep running');
  }

  /** Has to be followed by `ready`. The time tells the manager which SIGHUP this answers (Type=notify-reload). */
  reloading(): void {
    this.#send(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
  }

  /** `look` does what a client would have done, and says in a few words how things are. While it fails or hangs, the watchdog hears nothing. */
  watch(ctx: Ctx, look: (ctx: Ctx) => Promise<string>): void {
    if (this.#address !== undefined) void this.#watch(ctx, look);
  }

  async #watch(ctx: Ctx, look: (ctx: Ctx) => Promise<string>): Promise<void> {
    const { everyMs, isWatched } = this.#plan;
    while (!ctx.signal.aborted) {
      try {
        const status = await look(withTimeout(ctx, everyMs));
        this.#send([...(isWatched ? ['WATCHDOG=1'] : []), ...(status === this.#status ? [] : [`STATUS=${status}`])].join('\n'));
        this.#status = status;
      } catch (error) {
        if (!ctx.signal.aborted) ctx.log.warn({ why: explain(error) }, isWatched ? 'the look at ourselves failed: no sign of life for the watchdog' : 'the look at ourselves failed');
      }
      await sleep(everyMs, undefined, { signal: ctx.signal }).catch(() => undefined); // aborted: the loop ends
    }
  }

  #send(state: string): void {
    if (this.#address === undefined || state === '') return;
    const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    try {
      connectSync(fd, this.#address);
      send(fd, Buffer.from(state), MSG_NOSIGNAL);
    } catch (error) {
      // The manager is gone, or its queue (512 messages) is full: it is not for us to fail because of it.
      if (!isErrno(error, 'ENOENT', 'ECONNREFUSED', 'EAGAIN', 'EPERM', 'EACCES')) throw error;
    } finally {
      closeSync(fd);
    }
  }
}
