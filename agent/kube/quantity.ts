/** Kubernetes quantities (`250m`, `64Mi`, `1e3`) as exact numbers. Source: k8s.io/apimachinery/pkg/api/resource. */

/** Quantities are kept in billionths, the smallest step they have. */
export type Nanos = bigint;

const nano = 1_000_000_000n;

const decimal: Readonly<Record<string, bigint>> = { n: 1n, u: 1000n, m: 1_000_000n, '': nano, k: nano * 1000n, M: nano * 1000n ** 2n, G: nano * 1000n ** 3n, T: nano * 1000n ** 4n, P: nano * 1000n ** 5n, E: nano * 1000n ** 6n };
const binary: Readonly<Record<string, bigint>> = { Ki: 1024n, Mi: 1024n ** 2n, Gi: 1024n ** 3n, Ti: 1024n ** 4n, Pi: 1024n ** 5n, Ei: 1024n ** 6n };

/** Undefined when it is no quantity. Digits below a billionth round away from zero, as in the API server. */
export function parseQuantity(text: string | number): Nanos | undefined {
  const match = /^([+-]?)(\d*)(?:\.(\d*))?(?:([eE][+-]?\d{1,3})|([KMGTPE]i|[numkMGTPE]))?$/.exec(String(text));
  if (match === null) return undefined;
  const [, sign, whole = '', fraction = '', exponent, suffix = ''] = match;
  if (whole === '' && fraction === '') return undefined;
  let numerator = BigInt(whole + fraction);
  let denominator = 10n ** BigInt(fraction.length);
  const binaryFactor = binary[suffix];
  if (exponent !== undefined) {
    const power = Number(exponent.slice(1));
    if (power >= 0) numerator *= 10n ** BigInt(power);
    else denominator *= 10n ** BigInt(-power);
  }
  const factor = binaryFactor === undefined ? (decimal[suffix] ?? nano) : binaryFactor * nano;
  const nanos = ceilDivide(numerator * factor, denominator);
  return sign === '-' ? -nanos : nanos;
}

/** Rounds up, for a positive divisor. */
export function ceilDivide(dividend: bigint, divisor: bigint): bigint {
  const quotient = dividend / divisor;
  return dividend % divisor > 0n ? quotient + 1n : quotient;
}

/** Whole units, rounded up: bytes, cores, pods. */
export const wholeOf = (quantity: Nanos): bigint => ceilDivide(quantity, nano);
/** Thousandths, rounded up: milli-CPUs. */
export const milliOf = (quantity: Nanos): bigint => ceilDivide(quantity, 1_000_000n);

/** Whole units of a quantity as written; undefined for an absent or malformed one. */
export function wholeFrom(text: string | undefined): bigint | undefined {
  const quantity = text === undefined ? undefined : parseQuantity(text);
  return quantity === undefined ? undefined : wholeOf(quantity);
}

export function milliFrom(text: string | undefined): bigint | undefined {
  const quantity = text === undefined ? undefined : parseQuantity(text);
  return quantity === undefined ? undefined : milliOf(quantity);
}
