/** Just enough of TypeScript's grammar for the house check: imports and exports of a file, by pattern. Pure. */

export interface Import {
  readonly specifier: string;
  readonly line: number;
  /** Nothing of it is left at run time. */
  readonly typeOnly: boolean;
  /** The names taken (before `as`); `*` for a whole namespace or a lazy import. */
  readonly names: readonly string[];
}

export interface Export {
  readonly name: string;
  readonly line: number;
  readonly isType: boolean;
}

/**
 * The text with comments blanked out (line breaks kept), and strings too unless an import names a file by them. Templates stay: they hold code. A regular
 * expression that holds a quote may hide the rest of its line, which no import stands on.
 */
export function code(text: string): string {
  const token = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|((?:\bfrom|\bimport)[ \t]*\(?[ \t\n]*)?(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")|`(?:[^`\\]|\\[\s\S])*`/g;
  return text.replace(token, (found, importing: string | undefined) => (importing !== undefined || found.startsWith('`') ? found : found.replace(/[^\n'"]/g, ' ')));
}

const importPattern = /^[ \t]*(import|export)\b([^;'"`]*?)\bfrom\s*['"]([^'"]+)['"]|^[ \t]*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm;

export function importsOf(text: string): Import[] {
  return [...text.matchAll(importPattern)].map((match) => {
    const [, , clause = '', from, bare, lazy] = match;
    const line = text.slice(0, match.index + (match[0].length - match[0].trimStart().length)).split('\n').length;
    if (from === undefined) {
      const isType = lazy !== undefined && /\btypeof\s*$/.test(text.slice(0, match.index));
      return { specifier: bare ?? lazy ?? '', line, typeOnly: isType, names: bare === undefined ? ['*'] : [] };
    }
    const { names, typeOnly } = namesOf(clause);
    return { specifier: from, line, typeOnly, names };
  });
}

/** `clause` is what stands between `import` or `export` and `from`. */
function namesOf(clause: string): { names: string[]; typeOnly: boolean } {
  const braces = /\{([^}]*)\}/.exec(clause);
  const before = (braces === null ? clause : clause.slice(0, braces.index)).trim();
  if (before.includes('*')) return { names: ['*'], typeOnly: before.startsWith('type') };
  const items = (braces?.[1] ?? '').split(',').map((item) => item.trim()).filter((item) => item !== '');
  const names = items.map((item) => item.replace(/^type\s+/, '').split(/\s+as\s+/)[0] ?? '');
  const hasDefault = before.replace(/^type\b/, '').replace(',', '').trim() !== '';
  const typeOnly = before === 'type' || (!hasDefault && items.length > 0 && items.every((item) => item.startsWith('type ')));
  return { names: hasDefault ? [...names, 'default'] : names, typeOnly };
}

const exportPattern = /^export\s+(?:declare\s+|abstract\s+|async\s+)*(const|let|function\*?|class|interface|type)\s+([A-Za-z_$][\w$]*)/gm;

export function exportsOf(text: string): Export[] {
  return [...text.matchAll(exportPattern)].map((match) => ({
    name: match[2] ?? '',
    line: text.slice(0, match.index).split('\n').length,
    isType: match[1] === 'interface' || match[1] === 'type',
  }));
}
