/** `$(NAME)` in commands, arguments and values. Source: kubernetes third_party/forked/golang/expansion. */

/** `$$` gives `$`; a name that `values` does not have, and anything that is no reference, stays as it was written. */
export const expand = (text: string, values: ReadonlyMap<string, string>): string =>
  text.replaceAll(/\$(?:\$|\(([^)]*)\))/g, (whole, name: string | undefined) => (name === undefined ? '$' : (values.get(name) ?? whole)));

/** The names that `expand` would look for and not find. */
export function unknownNames(text: string, values: ReadonlyMap<string, string>): string[] {
  return [...text.matchAll(/\$(?:\$|\(([^)]*)\))/g)].flatMap(([, name]) => (name === undefined || values.has(name) ? [] : [name]));
}
