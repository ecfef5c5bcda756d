/** A log line for people: time, level, message, then the fields. Pure. */

/** `line` is one line of JSON as pino writes it; anything else is returned as it is. */
export function prettyLine(line: string): string {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const { level, time, msg, part, err, ...others } = fields;
  const clock = String(time).slice(11, 23);
  const { stack, ...error } = typeof err === 'object' && err !== null ? (err as { stack?: unknown }) : {};
  const shown = { ...others, ...(err === undefined ? {} : { err: error }) };
  const rest = Object.entries(shown).map(([name, value]) => ` ${name}=${typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)}`).join('');
  const trace = typeof stack === 'string' ? `\n${stack.split('\n').slice(1).join('\n')}` : '';
  return `${clock} ${String(level).toUpperCase().padEnd(5)} ${part === undefined ? '' : `[${String(part)}] `}${String(msg)}${rest}${trace}\n`;
}
