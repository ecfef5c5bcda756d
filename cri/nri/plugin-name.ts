/** What a plugin is called. Pure. */

export interface PluginName {
  /** Two digits: plugins are asked in this order. */
  readonly index: string;
  readonly name: string;
}

/** Of a file in the plugin folder: `10-name`. Undefined when it is none. */
export function parsePluginName(text: string): PluginName | undefined {
  const [, index, name] = /^(\d\d)-(.+)$/s.exec(text) ?? [];
  return index === undefined || name === undefined ? undefined : { index, name };
}
