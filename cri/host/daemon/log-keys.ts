/** The `log:` part of the configuration. */
import { type ConfigOf, key, live, optional, section } from '../config/key.ts';
import { oneOf } from '../config/readers.ts';
import { logLevels } from '../log-level.ts';

const level = oneOf(...logLevels);

/** `parts`: what may have a level of its own. */
export const logKeys = (parts: readonly string[]) => ({
  level: live(key(level, 'info', `${logLevels.join(', ')}; written to stderr`)),
  format: key(oneOf('json', 'pretty'), 'json', 'lines of JSON, or pretty: text for people'),
  parts: live(section('levels of their own', Object.fromEntries(parts.map((name) => [name, optional(level, 'debug', '')])))),
});

export type LogConfig = ConfigOf<ReturnType<typeof logKeys>>;
