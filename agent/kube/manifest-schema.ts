/** Checks a document from a file against the Kubernetes types: every field known, every value of its type. The types' own tables say what there is. */
import * as models from '@kubernetes/client-node/dist/gen/models/all.js';
import { parseQuantity } from './quantity.ts';

interface Attribute {
  readonly name: string;
  readonly baseName: string;
  readonly type: string;
}

const isMap = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The fields of a generated class, by their JSON names; undefined when there is no such class. */
function attributesOf(type: string): ReadonlyMap<string, Attribute> | undefined {
  const found: unknown = Reflect.get(models, type);
  if (typeof found !== 'function' || !('getAttributeTypeMap' in found) || typeof found.getAttributeTypeMap !== 'function') return undefined;
  const attributes = found.getAttributeTypeMap() as Attribute[]; // the generator's contract
  return new Map(attributes.map((attribute) => [attribute.baseName, attribute]));
}

/** The first thing wrong with `value` as a `type` (`V1Pod`): `spec.containers[0].image: must be a string`. Undefined when all is well. */
export function schemaProblem(value: unknown, type: string, path = ''): string | undefined {
  const at = (what: string): string => (path === '' ? what : `${path}: ${what}`);
  if (value === null || value === undefined) return undefined; // absent
  const list = /^Array<(.*)>$/.exec(type)?.[1];
  if (list !== undefined) {
    if (!Array.isArray(value)) return at('must be a list');
    return firstOf(value.map((item, index) => () => schemaProblem(item, list, `${path}[${index}]`)));
  }
  const map = /^\{ \[key: string\]: (.*); \}$/.exec(type)?.[1];
  if (map !== undefined) {
    if (!isMap(value)) return at('must be a map');
    const isQuantities = map === 'string' && /\.(limits|requests|overhead)$/.test(path);
    return firstOf(
      Object.entries(value).map(([key, item]) => () => {
        if (isQuantities) return parseQuantity(String(item)) === undefined ? `${path}.${key}: ${JSON.stringify(item)} is no quantity` : undefined;
        return schemaProblem(item, map, `${path}.${key}`);
      }),
    );
  }
  return scalarProblem(value, type, at) ?? objectProblem(value, type, path, at);
}

function scalarProblem(value: unknown, type: string, at: (what: string) => string): string | undefined {
  switch (type) {
    case 'string':
      return typeof value === 'string' ? undefined : at(`must be a string${typeof value === 'object' ? '' : `; put ${String(value)} in quotes`}`);
    case 'number':
      return typeof value === 'number' ? undefined : at('must be a number');
    case 'boolean':
      return typeof value === 'boolean' ? undefined : at('must be true or false');
    case 'IntOrString':
      return typeof value === 'number' || typeof value === 'string' ? undefined : at('must be a number or a string');
    default:
      return undefined;
  }
}

function objectProblem(value: unknown, type: string, path: string, at: (what: string) => string): string | undefined {
  const attributes = attributesOf(type);
  if (attributes === undefined) return undefined; // any, object, Date: nothing to check
  if (!isMap(value)) return at('must be a map');
  return firstOf(
    Object.entries(value).map(([key, item]) => () => {
      const attribute = attributes.get(key);
      const field = path === '' ? key : `${path}.${key}`;
      return attribute === undefined ? `${field}: unknown field` : schemaProblem(item, attribute.type, field);
    }),
  );
}

function firstOf(checks: readonly (() => string | undefined)[]): string | undefined {
  for (const check of checks) {
    const problem = check();
    if (problem !== undefined) return problem;
  }
  return undefined;
}
