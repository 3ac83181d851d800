# What the scripts that install peers share. Sourced by them, with the checkout as the current directory, SELF as
# the script's own path and tools/lib.sh before it.
#
# A stage is a function of the script, run by a process of its own, and is done when .peers/marks/<stage> holds the
# digest of what it is made from. One that fails does not keep the others from being made: its peer is then absent,
# and the benchmark says so.

readonly PEERS=$PWD/.peers PYTHON=.venv/bin/python
[ -x $PYTHON ] || die python "there is no $PYTHON: make setup, then again"
FAILED=0

has() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
apt_install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$@"; }

# files DIR...: what is in them but for what was built.
files() { find "$@" -name target -prune -o -type f -print | sort; }

# version NAME VERSION: for the benchmark, which tells it with the peer's figures.
version() { echo "$2" >"$PEERS/versions/$1"; }

# packages VENV REQUIREMENTS: into a new virtual environment below .peers, exact versions with hashes.
packages() {
  rm -rf "${PEERS:?}/$1"
  $PYTHON -m venv "$PEERS/$1"
  "$PEERS/$1/bin/python" -m pip --disable-pip-version-check install --require-hashes --no-deps -r "$2"
  local pinned
  for pinned in $(grep -o '^[a-z0-9-]*==[0-9.]*' "$2"); do version "${pinned%==*}" "${pinned#*==}"; done
}

# maven POM: builds it; Maven and a JDK are installed if they are missing.
maven() {
  { has mvn && has javac; } || apt_install maven default-jdk-headless
  mvn -q -B -f "$1" package
}

# stages_begin LOCK: one run at a time.
stages_begin() {
  mkdir -p "$PEERS"/{bin,marks,versions}
  exec 9>"$PEERS/$1.lock"
  flock 9
}

# stage NAME TEXT FILE...: made, unless its mark is that of these files.
stage() {
  local name=$1 text=$2 digest
  shift 2
  digest=$({ echo "$ROOT"; sha256sum "$SELF" bench/install/stages.sh "$@"; } | sha256sum)
  [ "$(cat "$PEERS/marks/$name" 2>/dev/null)" = "$digest" ] && return
  if step "$name" "$text" "$SELF" "$name"; then echo "$digest" >"$PEERS/marks/$name"; else FAILED=1; fi
}
