/** The `log:` part of the configuration. */
import { type ConfigOf, key, live, optional, section } from '#host/config/key.ts';
import { oneOf } from '#host/config/readers.ts';
import { logLevels } from '#host/log.ts';

const level = oneOf(...logLevels);

export const logKeys = {
  level: live(key(level, 'info', `${logLevels.join(', ')}; written to stderr`)),
  format: key(oneOf('json', 'pretty'), 'json', 'lines of JSON, or pretty: text for people'),
  parts: live(section('levels of their own', {
    cri: optional(level, 'debug', ''),
    agent: optional(level, 'debug', ''),
  })),
} as const;

export type LogConfig = ConfigOf<typeof logKeys>;
