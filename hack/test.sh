#!/bin/sh
# npm test [-- PART…]: sets the machine up, then runs every check and test (parts: types lint house unit judges root e2e cgroup2). CI=true makes a skip a failure.
set -eu
cd "$(dirname "$0")/.."
. hack/setup.sh
heading 'Set-up'
# shellcheck disable=SC2046
if [ "$(id -u)" = 0 ]; then ensure_packages; install_packages $(test_packages) $(judge_packages); else say 'Debian packages: not installed, because this is not root (the tests that need them will be skipped)'; fi
ensure_modules
exec node hack/test.ts "$@"
