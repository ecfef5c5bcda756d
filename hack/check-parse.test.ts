/** The house check sees what an import is, and what is not one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { code, exportsOf, importsOf } from './check-parse.ts';

const cases: [string, string, Partial<ReturnType<typeof importsOf>[number]>[]][] = [
  ['a named import', "import { a, b as c } from './x.ts';", [{ specifier: './x.ts', typeOnly: false, names: ['a', 'b'], line: 1 }]],
  ['an import over several lines', "\n\nimport {\n  a,\n  type B,\n} from './x.ts';", [{ specifier: './x.ts', typeOnly: false, names: ['a', 'B'], line: 3 }]],
  ['import type', "import type { A } from '#cri-api';", [{ specifier: '#cri-api', typeOnly: true, names: ['A'] }]],
  ['only inline types', "import { type A, type B } from './x.ts';", [{ typeOnly: true, names: ['A', 'B'] }]],
  ['a re-export', "export * from './gen.ts';", [{ specifier: './gen.ts', typeOnly: false, names: ['*'] }]],
  ['a lazy import', "const { x } = await import('./x.ts');", [{ specifier: './x.ts', typeOnly: false, names: ['*'] }]],
  ['a type of a lazy import', "type X = typeof import('./x.ts');", [{ specifier: './x.ts', typeOnly: true }]],
  ['an import in a comment', "// import { a } from './x.ts';\n/* import './y.ts' */", []],
  ['a word in a string', "const text = 'https://import.example // no comment'; import { a } from './x.ts';".replace('; ', ';\n'), [{ specifier: './x.ts', line: 2 }]],
  ['an import in a string', `const text = "import { a } from './x.ts';";`, []],
  ['an exported function that mentions from', "export function a(from: string): void {}\nexport const b = 'from';", []],
];
for (const [name, text, want] of cases) {
  test(`imports: ${name}`, () => {
    const found = importsOf(code(text));
    assert.equal(found.length, want.length);
    assert.partialDeepStrictEqual(found, want);
  });
}

test('exports are found with their kind', () => {
  const text = "export const a = 1;\nexport async function b() {}\nexport interface C {}\nconst d = 2;\nexport abstract class E {}";
  assert.deepEqual(exportsOf(text).map((each) => [each.name, each.isType]), [['a', false], ['b', false], ['C', true], ['E', false]]);
});
