#!/bin/sh
# npm run clean: removes everything that nodelet ever made on this machine (`nodelet wipe`) and the demo image. node_modules and dist stay.
set -eu
cd "$(dirname "$0")/.."
rm -rf .cache/demo
if [ ! -e /var/lib/nodelet ] && [ ! -e /run/nodelet ]; then echo 'nothing to remove'; exit 0; fi
[ "$(id -u)" = 0 ] || { echo 'npm run clean needs root' >&2; exit 1; }
PATH="$PWD/node_modules/.bin:$PATH"
node hack/build.ts
exec hack/nodelet.sh wipe "$@"
