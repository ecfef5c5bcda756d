/** Who asks: the holder of a client certificate, or of a token that the API server recognises. Nobody else gets in. */
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { Ctx } from '#host/ctx.ts';
import type { KubeClient } from '../kube/client.ts';
import { tokenReviewsPath } from '../kube/resource-path.ts';
import type { TokenReview } from '../kube/types.ts';
import { VerdictCache } from './verdict-cache.ts';

export interface User {
  readonly name: string;
  readonly uid?: string;
  readonly groups: readonly string[];
  readonly extra?: Readonly<Record<string, string[]>>;
}

/** Source: KubeletConfiguration authentication.webhook.cacheTTL. */
const rememberMs = 120_000;
const everybody = 'system:authenticated';

export class Authenticator {
  readonly #client: KubeClient;
  readonly #tokens = new VerdictCache<User | 'unknown'>();

  constructor(client: KubeClient) {
    this.#client = client;
  }

  /** Undefined: unknown. Throws what TokenReview throws. */
  async who(ctx: Ctx, request: IncomingMessage): Promise<User | undefined> {
    const holder = request.socket instanceof TLSSocket ? certificateUser(request.socket) : undefined;
    if (holder !== undefined) return holder;
    const token = /^Bearer +(\S+)\s*$/i.exec(request.headers.authorization ?? '')?.[1];
    return token === undefined ? undefined : this.#tokenUser(ctx, token);
  }

  async #tokenUser(ctx: Ctx, token: string): Promise<User | undefined> {
    const key = createHash('sha256').update(token).digest('base64');
    const known = this.#tokens.get(key, performance.now());
    if (known !== undefined) return known === 'unknown' ? undefined : known;
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token } };
    const { status } = await this.#client.create<TokenReview>(ctx, tokenReviewsPath, review);
    const { username = '', uid, groups = [], extra } = status?.user ?? {};
    const isKnown = status?.authenticated === true && username !== '';
    const user = isKnown ? { name: username, groups: withEverybody(groups), ...(uid !== undefined && { uid }), ...(extra !== undefined && { extra }) } : undefined;
    this.#tokens.set(key, user ?? 'unknown', rememberMs, performance.now());
    return user;
  }
}

/** The certificate's common name is the user, its organizations are the groups; only if one of our authorities has signed it. */
function certificateUser(socket: TLSSocket): User | undefined {
  if (!socket.authorized) return undefined;
  const subject = socket.getPeerCertificate().subject as { CN?: string | string[]; O?: string | string[] } | undefined;
  const name = [subject?.CN ?? []].flat().at(-1);
  return name === undefined || name === '' ? undefined : { name, groups: withEverybody([subject?.O ?? []].flat()) };
}

const withEverybody = (groups: readonly string[]): string[] => (groups.includes(everybody) ? [...groups] : [...groups, everybody]);
