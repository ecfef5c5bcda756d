/** The WWW-Authenticate header: schemes with their parameters (RFC 9110 §11.6.1). Pure. */

export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly parameters: Readonly<Record<string, string>>;
}

const token = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const token68 = /[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))/y;

/** Parts that cannot be understood are skipped; several headers are given joined by commas, as Node does. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  let at = 0;
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(header)?.[0];
    at += found?.length ?? 0;
    return found;
  };
  while (at < header.length) {
    match(/[\s,]*/y);
    const word = match(token);
    if (word === undefined) {
      at += 1;
      continue;
    }
    const current = challenges.at(-1);
    if (match(/\s*=\s*(?=[^\s=,])/y) !== undefined && current !== undefined) current.parameters[word.toLowerCase()] = value();
    else {
      challenges.push({ scheme: word.toLowerCase(), parameters: {} });
      // `Negotiate abc==`: a blob instead of parameters.
      const start = at;
      if (match(/\s+/y) !== undefined && match(token68) === undefined) at = start;
    }
  }
  return challenges;

  function value(): string {
    if (header[at] !== '"') return match(token) ?? '';
    let text = '';
    for (at += 1; at < header.length && header[at] !== '"'; at += 1) {
      if (header[at] === '\\') at += 1;
      text += header[at] ?? '';
    }
    at += 1;
    return text;
  }
}
