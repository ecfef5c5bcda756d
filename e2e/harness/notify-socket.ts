/** A service manager's notification socket (sd_notify(3)), for Node has no unix datagrams: perl, which every Debian has, receives them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export interface NotifySocket extends AsyncDisposable {
  /** For the environment of who is to notify. */
  readonly env: Readonly<Record<string, string>>;
  /** Each datagram, oldest first. */
  readonly messages: readonly string[];
}

const receiver = `use Socket; $| = 1; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; my $n = $ARGV[0]; $n =~ s/^@/\\0/;
bind($s, pack('S a*', AF_UNIX, $n)) or die "bind: $!"; print "bound\\n"; while (defined recv($s, my $m, 65536, 0)) { $m =~ s/\\n/;/g; print "$m\\n"; }`;

/** `name` is a path or `@abstract`. */
export async function notifySocket(name: string, watchdogMs?: number): Promise<NotifySocket> {
  const child = spawn('perl', ['-e', receiver, name], { stdio: ['ignore', 'pipe', 'inherit'] });
  const messages: string[] = [];
  const lines = createInterface({ input: child.stdout });
  await once(lines, 'line'); // bound
  lines.on('line', (line) => messages.push(line));
  return {
    env: { NOTIFY_SOCKET: name, ...(watchdogMs === undefined ? {} : { WATCHDOG_USEC: String(watchdogMs * 1000) }) },
    messages,
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}
