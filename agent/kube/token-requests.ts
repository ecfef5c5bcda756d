/** Service account tokens bound to a pod, asked for once and renewed in good time. */
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import type { KubeClient } from './client.ts';
import { serviceAccountTokenPath } from './resource-path.ts';
import type { Pod } from './types.ts';

export interface TokenSource {
  /** `audience` empty: the API server's own. */
  token(ctx: Ctx, pod: Pod, audience: string, expirationSeconds: number): Promise<string>;
  forgetPod(uid: string): void;
}

interface TokenAnswer {
  readonly status?: { readonly token?: string; readonly expirationTimestamp?: string };
}

interface Known {
  readonly token: string;
  readonly renewAtMs: number;
  readonly expiresAtMs: number;
}

const dayMs = 86_400_000;

/** Source: kubelet pkg/kubelet/token: renewed after 80 % of its life or a day. */
export class ApiTokenSource implements TokenSource {
  readonly #client: KubeClient;
  readonly #known = new Map<string, Known>();

  constructor(client: KubeClient) {
    this.#client = client;
  }

  async token(ctx: Ctx, pod: Pod, audience: string, expirationSeconds: number): Promise<string> {
    const { namespace = 'default', name = '', uid = '' } = pod.metadata ?? {};
    const account = pod.spec?.serviceAccountName ?? 'default';
    const key = `${uid}/${account}/${audience}/${expirationSeconds}`;
    const known = this.#known.get(key);
    if (known !== undefined && Date.now() < known.renewAtMs) return known.token;
    try {
      const made = await this.#request(ctx, namespace, account, {
        audiences: audience === '' ? [] : [audience], expirationSeconds, boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
      });
      this.#known.set(key, made);
      return made.token;
    } catch (error) {
      if (known === undefined || Date.now() >= known.expiresAtMs) throw error;
      ctx.log.warn({ err: error, pod: `${namespace}/${name}` }, 'service account token not renewed, the present one is still good');
      return known.token;
    }
  }

  forgetPod(uid: string): void {
    for (const key of this.#known.keys()) if (key.startsWith(`${uid}/`)) this.#known.delete(key);
  }

  async #request(ctx: Ctx, namespace: string, account: string, spec: object): Promise<Known> {
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec };
    const { status } = await this.#client.create<TokenAnswer>(ctx, serviceAccountTokenPath(namespace, account), body);
    if (!status?.token) throw new Fault('internal', `token for service account ${namespace}/${account}: the answer has none`);
    const nowMs = Date.now();
    const expiresAtMs = Date.parse(status.expirationTimestamp ?? '') || nowMs + 600_000;
    const renewAtMs = Math.min(nowMs + dayMs, nowMs + (expiresAtMs - nowMs) * 0.8) - Math.random() * 10_000;
    return { token: status.token, renewAtMs, expiresAtMs };
  }
}
