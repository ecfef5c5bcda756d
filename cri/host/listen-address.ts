/** Where a server listens: `unix:///run/x.sock` or `127.0.0.1:9117`. Pure. */

export type ListenAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** Undefined for what is neither. */
export function parseAddress(text: string): ListenAddress | undefined {
  const path = /^unix:\/\/(\/[^\0]+)$/.exec(text)?.[1];
  if (path !== undefined) return { path };
  const [, bracketed, plain, port] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  return host === undefined || Number(port) > 65_535 ? undefined : { host, port: Number(port) };
}
