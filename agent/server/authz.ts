/** Who may do what: each path is a subresource of this node, and the API server decides. Source: kubelet pkg/kubelet/server/auth.go. */
import type { Ctx } from '#host/ctx.ts';
import type { KubeClient } from '../kube/client.ts';
import { subjectAccessReviewsPath } from '../kube/resource-path.ts';
import type { SubjectAccessReview } from '../kube/types.ts';
import type { User } from './authn.ts';
import { VerdictCache } from './verdict-cache.ts';

/** Source: KubeletConfiguration authorization.webhook.cacheAuthorizedTTL and cacheUnauthorizedTTL. */
const rememberAllowedMs = 300_000;
const rememberDeniedMs = 30_000;

const verbs: Readonly<Record<string, string>> = { POST: 'create', GET: 'get', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };

export const verbOf = (method: string): string => verbs[method] ?? '';

/** Paths with a subresource of their own; the finer ones are asked first and `proxy` after them. Anything else is `proxy`. */
const table: readonly { readonly path: string; readonly subresources: readonly string[] }[] = [
  { path: '/pods', subresources: ['pods', 'proxy'] },
  { path: '/runningpods', subresources: ['pods', 'proxy'] },
  { path: '/healthz', subresources: ['healthz', 'proxy'] },
  { path: '/configz', subresources: ['configz', 'proxy'] },
  { path: '/stats', subresources: ['stats'] },
  { path: '/metrics', subresources: ['metrics'] },
  { path: '/logs', subresources: ['log'] },
  { path: '/checkpoint', subresources: ['checkpoint'] },
  { path: '/statusz', subresources: ['statusz'] },
  { path: '/flagz', subresources: ['configz'] },
];

export function subresourcesOf(path: string): readonly string[] {
  return table.find((row) => path === row.path || path.startsWith(`${row.path}/`))?.subresources ?? ['proxy'];
}

export class Authorizer {
  readonly #client: KubeClient;
  readonly #nodeName: string;
  readonly #verdicts = new VerdictCache<boolean>();

  constructor(client: KubeClient, nodeName: string) {
    this.#client = client;
    this.#nodeName = nodeName;
  }

  /** Throws what SubjectAccessReview throws: no answer is no permission. */
  async may(ctx: Ctx, user: User, verb: string, subresource: string): Promise<boolean> {
    const key = JSON.stringify([user, verb, subresource]);
    const known = this.#verdicts.get(key, performance.now());
    if (known !== undefined) return known;
    const review = {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: {
        user: user.name, groups: user.groups, uid: user.uid, extra: user.extra,
        resourceAttributes: { verb, version: 'v1', resource: 'nodes', subresource, name: this.#nodeName },
      },
    };
    const { status } = await this.#client.create<SubjectAccessReview>(ctx, subjectAccessReviewsPath, review);
    const isAllowed = status?.allowed === true && status.denied !== true;
    this.#verdicts.set(key, isAllowed, isAllowed ? rememberAllowedMs : rememberDeniedMs, performance.now());
    return isAllowed;
  }
}
