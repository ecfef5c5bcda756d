#!/bin/sh
# The command `nodelet`: runs dist/nodelet.js with the Node that package.json pins and the flags that keep it small.
set -eu
self=$(readlink -f "$0")
top=${self%/hack/*}
for node in "$top/node_modules/.bin/node" "$top"/node_modules/node-linux-*/bin/node "$top"/../node-linux-*/bin/node; do
  [ -x "$node" ] && break
done
[ -x "$node" ] || { echo "nodelet: no Node below $top/node_modules; run: npm ci" >&2; exit 1; }
[ -f "$top/dist/nodelet.js" ] || { echo "nodelet: $top/dist/nodelet.js is missing; run: npm run build" >&2; exit 1; }
# Blocking system calls (mount, unmount, flock) each hold a thread of libuv's pool; four, its default, would let a slow disk stop the node.
export UV_THREADPOOL_SIZE="${UV_THREADPOOL_SIZE:-16}"
# Registries whose certificates this host trusts are trusted, beside those that Node itself knows.
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
  if [ -r "$bundle" ]; then export NODE_EXTRA_CA_CERTS="${NODE_EXTRA_CA_CERTS:-$bundle}"; fi
done
# What V8 has compiled once need not be compiled at each start (55 ms of 120). Where it cannot be written it is done without.
export NODE_COMPILE_CACHE="${NODE_COMPILE_CACHE:-$top/dist/cache}"
exec "$node" --max-semi-space-size=2 --v8-pool-size=1 --disable-warning=ExperimentalWarning "$top/dist/nodelet.js" "$@"
