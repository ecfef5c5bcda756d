/** ConfigMaps and Secrets by name, kept fresh while somebody asks for them. */
import type { Ctx } from '#host/ctx.ts';
import type { ConfigMap, Secret } from './types.ts';

/** Where pods' ConfigMaps and Secrets come from: the API server, or files on a standalone node. Undefined = there is no such object. */
export interface ObjectSource {
  configMap(ctx: Ctx, namespace: string, name: string): Promise<ConfigMap | undefined>;
  secret(ctx: Ctx, namespace: string, name: string): Promise<Secret | undefined>;
}
