/**
 * Which way of streaming a request asks for. Pure: headers in, a choice or a refusal out.
 *
 * The client lists what it speaks in the order of its liking, and gets the first that we speak.
 * Source: k8s.io/streaming, httpstream.go (Handshake) and wsstream/conn.go; k8s.io/client-go, portforward/tunneling_dialer.go.
 */
import { acceptance, isHandshake } from './websocket/handshake.ts';

export type RequestHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** Of exec and attach. 3 brought resizes, 4 exit codes as JSON, 5 half-closing of standard input in a WebSocket. */
export type ProcessVersion = 1 | 2 | 3 | 4 | 5;

export type Choice =
  | { readonly way: 'spdy'; readonly version: ProcessVersion }
  | { readonly way: 'websocket'; readonly version: ProcessVersion; readonly isBase64: boolean }
  /** SPDY inside of a WebSocket; port forwarding only. */
  | { readonly way: 'tunnel' };

export type Negotiated =
  | { readonly kind: 'accepted'; readonly choice: Choice; readonly headers: Readonly<Record<string, string>> }
  | { readonly kind: 'refused'; readonly status: 400 | 403; readonly headers: Readonly<Record<string, string>>; readonly message: string };

const spdyVersions: Readonly<Record<string, ProcessVersion>> = {
  'v5.channel.k8s.io': 5, 'v4.channel.k8s.io': 4, 'v3.channel.k8s.io': 3, 'v2.channel.k8s.io': 2, 'channel.k8s.io': 1,
};
const socketVersions: Readonly<Record<string, { version: ProcessVersion; isBase64: boolean }>> = {
  'v5.channel.k8s.io': { version: 5, isBase64: false }, 'v4.channel.k8s.io': { version: 4, isBase64: false }, 'channel.k8s.io': { version: 1, isBase64: false },
  'v5.base64.channel.k8s.io': { version: 5, isBase64: true }, 'v4.base64.channel.k8s.io': { version: 4, isBase64: true }, 'base64.channel.k8s.io': { version: 1, isBase64: true },
};
const forwardProtocol = 'portforward.k8s.io';
const tunnelProtocol = `SPDY/3.1+${forwardProtocol}`;

export function negotiate(method: string | undefined, headers: RequestHeaders, what: 'process' | 'ports'): Negotiated {
  const upgrade = String(headers['upgrade'] ?? '').toLowerCase();
  if (!String(headers['connection'] ?? '').toLowerCase().includes('upgrade')) return refused(400, 'this is a stream: the request must ask for an upgrade to SPDY/3.1 or websocket');
  if (upgrade === 'websocket') return negotiateSocket(method, headers, what);
  if (upgrade.includes('spdy/3.1')) return negotiateSpdy(headers, what);
  return refused(400, `cannot upgrade to ${JSON.stringify(upgrade)}: SPDY/3.1 and websocket are spoken here`);
}

function negotiateSpdy(headers: RequestHeaders, what: 'process' | 'ports'): Negotiated {
  const name = 'X-Stream-Protocol-Version';
  const offered = listed(headers['x-stream-protocol-version']);
  const spoken = what === 'ports' ? [forwardProtocol] : Object.keys(spdyVersions);
  const upgrade = { Connection: 'Upgrade', Upgrade: 'SPDY/3.1' };
  // Clients older than the negotiation speak the first version, and would not understand a header that says so.
  if (offered.length === 0) return { kind: 'accepted', choice: { way: 'spdy', version: 1 }, headers: upgrade };
  const protocol = offered.find((each) => spoken.includes(each));
  if (protocol === undefined) return refused(403, `unable to negotiate protocol: client supports ${offered.join(', ')}, server accepts ${spoken.join(', ')}`, { 'X-Accepted-Stream-Protocol-Versions': spoken.join(', ') });
  return { kind: 'accepted', choice: { way: 'spdy', version: spdyVersions[protocol] ?? 1 }, headers: { ...upgrade, [name]: protocol } };
}

function negotiateSocket(method: string | undefined, headers: RequestHeaders, what: 'process' | 'ports'): Negotiated {
  if (!isHandshake(method, headers)) return refused(400, 'this is no handshake of WebSocket version 13');
  const key = String(headers['sec-websocket-key']);
  const offered = listed(headers['sec-websocket-protocol']);
  const accept = (choice: Choice, protocol: string): Negotiated => ({ kind: 'accepted', choice, headers: acceptance(key, protocol) });
  if (offered.length === 0) return accept({ way: 'websocket', version: 1, isBase64: false }, '');
  for (const protocol of offered) {
    if (what === 'ports' && protocol === tunnelProtocol) return accept({ way: 'tunnel' }, protocol);
    const found = socketVersions[protocol];
    // Port forwarding through channels exists in its fourth version only.
    if (found !== undefined && (what === 'process' || found.version === 4)) return accept({ way: 'websocket', ...found }, protocol);
  }
  const spoken = what === 'ports' ? [tunnelProtocol, ...Object.keys(socketVersions).filter((each) => socketVersions[each]?.version === 4)] : Object.keys(socketVersions);
  return refused(403, `unable to negotiate protocol: client supports ${offered.join(', ')}, server accepts ${spoken.join(', ')}`);
}

const refused = (status: 400 | 403, message: string, headers: Record<string, string> = {}): Negotiated => ({ kind: 'refused', status, message, headers });

/** Node joins repeated headers with a comma. */
const listed = (value: string | string[] | undefined): string[] =>
  String(value ?? '').split(',').map((each) => each.trim()).filter((each) => each !== '');
