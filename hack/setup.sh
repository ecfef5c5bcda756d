# Sourced by start.sh and test.sh: what a machine needs, installed once, with progress. Defines functions only.

heading() { printf '\n==> %s\n' "$*"; }
say() { printf '    %s\n' "$*"; }
give_up() { printf 'nodelet: %s\n' "$*" >&2; exit 1; }

# has_program NAME: on PATH or in the places where Debian puts programs for root.
has_program() { PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }
has_cni_plugin() { [ -x "/opt/cni/bin/$1" ] || [ -x "/usr/lib/cni/$1" ]; }

# is_static: a program without a dynamic loader, which is what an image made of it alone needs. (The loader's name proves nothing: static glibc holds it too.)
is_static() { [ -x "$1" ] && ! ldd "$1" >/dev/null 2>&1; }

# runtime_packages: the Debian packages whose programs are not here yet. Asked by program, so a runc or a plugin from elsewhere counts.
runtime_packages() {
  # The pinned Node is linked against it.
  /sbin/ldconfig -p | grep -q '^[[:space:]]*libatomic\.so\.1 ' || echo libatomic1
  has_program conmon || echo conmon
  has_program crun || echo crun
  has_program runc || echo runc
  has_program iptables || echo iptables
  has_program ip || echo iproute2
  has_program catatonit || echo catatonit
  has_cni_plugin bridge && has_cni_plugin host-local && has_cni_plugin portmap || echo containernetworking-plugins
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
}

# test_packages: what tests make containers of.
test_packages() {
  # A dynamic busybox is not replaced: other packages of the machine may want it.
  [ -x /bin/busybox ] || echo busybox-static
}

# judge_packages: what building runc, one of the judges, needs besides Go.
judge_packages() {
  has_program gcc || echo gcc libc6-dev
  has_program pkg-config || echo pkg-config
  [ -e /usr/include/seccomp.h ] || echo libseccomp-dev
}

# install_packages NAME…: by apt, with one line of progress per package. Needs root.
install_packages() {
  [ $# -gt 0 ] || return 0
  command -v apt-get >/dev/null 2>&1 || give_up "needs these programs, and there is no apt-get to install them with: $*"
  [ "$(id -u)" = 0 ] || give_up "needs root to install: apt-get install $*"
  say "installing $*"
  log=$(mktemp)
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    give_up "apt-get install $* failed; the end of its output is above"
  fi
  rm -f "$log"
}

ensure_packages() {
  missing=$(runtime_packages)
  if [ -z "$missing" ]; then say 'Debian packages: present'; return 0; fi
  # shellcheck disable=SC2086
  install_packages $missing
}

# ensure_modules: node_modules as the lock file says, and the pinned Node first on PATH.
ensure_modules() {
  if ! npm ls --all >/dev/null 2>&1; then
    say 'npm ci (the pinned Node, TypeScript and libraries; about 400 MB, half a minute)'
    # No package of ours needs its install script: koffi and esbuild bring their binaries in packages of their own.
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || give_up 'npm ci failed'
  fi
  sh hack/link-node.sh
  [ -x "$(pinned_node)" ] || give_up "npm ci left no Node in $(pinned_node)"
  PATH="$PWD/node_modules/.bin:$PATH"
  export PATH
  left_out=$(node hack/missing-modules.ts)
  if [ -n "$left_out" ]; then
    say "npm install of what an older npm leaves out:" $left_out
    # shellcheck disable=SC2086
    npm install --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error $left_out || give_up 'npm install failed'
    sh hack/link-node.sh
  fi
  say "Node $(node --version) from node_modules"
}

pinned_node() { echo "$PWD/node_modules/.bin/node"; }

# busybox_static DIRECTORY: prints the path of a static BusyBox: the machine's own, or Debian's package unpacked into DIRECTORY without installing it
# (it would replace a dynamic busybox that other packages may want).
busybox_static() {
  for candidate in /bin/busybox "$1/bin/busybox" "$1/usr/bin/busybox"; do
    if is_static "$candidate"; then echo "$candidate"; return 0; fi
  done
  mkdir -p "$1"
  (cd "$1" && { apt-get download -q busybox-static || { apt-get update -q && apt-get download -q busybox-static; }; }) >/dev/null 2>&1 ||
    give_up 'cannot download the package busybox-static for the demo image'
  dpkg-deb -x "$1"/busybox-static_*.deb "$1"
  rm -f "$1"/busybox-static_*.deb
  for candidate in "$1/bin/busybox" "$1/usr/bin/busybox"; do
    if is_static "$candidate"; then echo "$candidate"; return 0; fi
  done
  give_up 'the package busybox-static holds no static busybox'
}
