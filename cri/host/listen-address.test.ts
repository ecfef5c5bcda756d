/** Addresses to listen on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from './listen-address.ts';

test('unix sockets, host names and addresses of both kinds are read, and nothing else', () => {
  assert.deepEqual(parseAddress('unix:///run/nodelet/metrics.sock'), { path: '/run/nodelet/metrics.sock' });
  assert.deepEqual(parseAddress('127.0.0.1:9117'), { host: '127.0.0.1', port: 9117 });
  assert.deepEqual(parseAddress('[::1]:0'), { host: '::1', port: 0 });
  for (const text of ['', 'unix://relative', '127.0.0.1', ':9117', '::1:9117', 'host:70000', 'host:port', '/run/x.sock']) assert.equal(parseAddress(text), undefined, text);
});
