#!/bin/sh
# npm start [-- FLAG…]: sets the machine up (once), then runs a standalone node with the pods of manifests/standalone/ until Ctrl-C; containers stay.
set -eu
cd "$(dirname "$0")/.."
. hack/setup.sh
[ "$(id -u)" = 0 ] || give_up 'a node mounts, makes namespaces and cgroups: run npm start as root'
heading 'Set-up'
ensure_packages
ensure_modules
say "$(node hack/build.ts)"
demo="$PWD/.cache/demo"
if [ ! -d "$demo/image" ]; then
  busybox=$(busybox_static "$demo/busybox")
  say "demo image: $(node hack/demo-image.ts "$busybox" "$demo/image")"
fi
if ! hack/nodelet.sh image ls "$@" | grep -q '^localhost/nodelet-demo:1 '; then
  say "image import: $(hack/nodelet.sh image import "$demo/image" "$@")"
fi
heading 'Node (Ctrl-C stops it; containers keep running)'
exec node hack/start.ts "$@"
