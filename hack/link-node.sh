#!/bin/sh
# After npm ci: puts the pinned Node on the PATH of npm scripts, where npm 9 leaves it out (it drops the link together with the other architecture's package).
set -eu
cd "$(dirname "$0")/.."
for node in node_modules/node-linux-*/bin/node; do
  if [ -x "$node" ] && [ ! -x node_modules/.bin/node ]; then ln -sf "../${node#node_modules/}" node_modules/.bin/node; fi
done
