#!/bin/sh
# npm start [-- FLAG…]: sets the machine up (once), then runs a standalone node with the pods of manifests/standalone/ until Ctrl-C; containers stay.
set -eu
cd "$(dirname "$0")/.."
. hack/setup.sh
[ "$(id -u)" = 0 ] || give_up 'a node mounts, makes namespaces and cgroups: run npm start as root'
heading 'Set-up'
ensure_packages
ensure_modules
built=$(node hack/build.ts)
say "$built"
demo="$PWD/.cache/demo"
if [ ! -d "$demo/image" ]; then
  busybox=$(busybox_static "$demo/busybox")
  made=$(node hack/demo-image.ts "$busybox" "$demo/image")
  say "demo image: $made"
fi
if ! hack/nodelet.sh image ls "$@" | grep -q '^localhost/nodelet-demo:1 '; then
  imported=$(hack/nodelet.sh image import "$demo/image" "$@")
  say "image import: $imported"
fi
heading 'Node (Ctrl-C stops it; containers keep running)'
exec node hack/start.ts "$@"
