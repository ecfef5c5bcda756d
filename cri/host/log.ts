/** pino, set up once per process; everywhere else `ctx.log`. */
import { pino, type DestinationStream, type Logger } from 'pino';
import type { Ctx } from './ctx.ts';
import type { LogLevel } from './log-level.ts';
import { prettyLine } from './log-pretty.ts';

/** Keeps causes and both halves of a SuppressedError, which pino's own serializer drops. */
export function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error) || depth > 8) return error;
  const fields: Record<string, unknown> = { type: error.name, message: error.message };
  for (const [key, value] of Object.entries(error)) if (typeof value !== 'object' && key !== 'name') fields[key] = value;
  if (depth === 0) fields['stack'] = error.stack;
  if (error.cause !== undefined) fields['cause'] = describeError(error.cause, depth + 1);
  if (error instanceof SuppressedError) {
    fields['error'] = describeError(error.error, depth + 1);
    fields['suppressed'] = describeError(error.suppressed, depth + 1);
  }
  return fields;
}

/** Lines of JSON on stderr (or text for people), or on `destination`. Secrets are redacted here, once, whatever logs them. */
export function createLog(options: { level: LogLevel; format?: 'json' | 'pretty'; destination?: DestinationStream }): Logger {
  const stderr = options.destination ?? pino.destination({ fd: 2, sync: true });
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: (error: unknown) => describeError(error) },
      redact: { paths: ['auth', '*.auth', 'password', '*.password', 'token', '*.token', 'headers.authorization', '*.headers.authorization'], censor: '(redacted)' },
    },
    options.format === 'pretty' ? { write: (line) => stderr.write(prettyLine(line)) } : stderr,
  );
}

/** One log whose parts have levels of their own, which can change at any time. */
export class PartLogs {
  readonly root: Logger;
  readonly #parts = new Map<string, Logger>();
  #levels: Readonly<Record<string, LogLevel | undefined>> = {};

  constructor(root: Logger) {
    this.root = root;
  }

  of(part: string): Logger {
    return this.#parts.getOrInsertComputed(part, () => this.root.child({ part }, { level: this.#levels[part] ?? this.root.level }));
  }

  /** Loggers made from a part's before keep their level: they live as long as one request or one pass. */
  setLevels(level: LogLevel, parts: Readonly<Record<string, LogLevel | undefined>>): void {
    this.root.level = level;
    this.#levels = parts;
    for (const [part, log] of this.#parts) log.level = parts[part] ?? level;
  }
}

/** The context that is never given up. */
const backgroundCtx = (log: Logger): Ctx => ({ signal: new AbortController().signal, log });

/** For tests: writes nothing. */
export const quietCtx = (): Ctx => backgroundCtx(createLog({ level: 'silent' }));
