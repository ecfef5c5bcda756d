/** Time as the CRI counts it: nanoseconds since 1970 as bigint. */

const offsetNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();
let lastDriftCheckMs = 0;
let currentOffsetNs = offsetNs;

/** Unix time in nanoseconds: the system clock to the millisecond, the monotonic clock below it; follows clock changes. */
export function nowNs(): bigint {
  const wallMs = Date.now();
  const nanoseconds = process.hrtime.bigint() + currentOffsetNs;
  if (wallMs !== lastDriftCheckMs) {
    lastDriftCheckMs = wallMs;
    const drift = nanoseconds - BigInt(wallMs) * 1_000_000n;
    if (drift < 0n || drift > 2_000_000n) {
      currentOffsetNs = BigInt(wallMs) * 1_000_000n - process.hrtime.bigint();
      return BigInt(wallMs) * 1_000_000n;
    }
  }
  return nanoseconds;
}

/** Milliseconds of a clock that never jumps; only differences mean something. */
export const monotonicMs = (): number => performance.now();

/** RFC 3339 in UTC with nine digits, as Go's RFC3339Nano reads it. */
export function rfc3339(atNs: bigint): string {
  const milliseconds = Number(atNs / 1_000_000n);
  const below = String(atNs % 1_000_000_000n).padStart(9, '0');
  return `${new Date(milliseconds).toISOString().slice(0, 19)}.${below}Z`;
}
