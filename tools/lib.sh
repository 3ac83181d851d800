# What every recipe's script shares: one line a step, its time, and its whole output when it fails.
# Sourced, with the checkout as the current directory.

readonly NAME_WIDTH=12 TEXT_WIDTH=58
readonly ROOT=$PWD LOGS=$PWD/.setup/log
mkdir -p "$LOGS"

# say NAME TEXT: one line without a time.
say() { printf '  %-*s%s\n' $NAME_WIDTH "$1" "$2"; }

# die NAME TEXT...: what is wrong, then what to do, on stderr.
die() {
  printf '\n  %-*s%s\n' $NAME_WIDTH "$1" "$2" >&2
  shift 2
  local line
  for line in "$@"; do printf '  %-*s%s\n' $NAME_WIDTH "" "$line" >&2; done
  exit 1
}

# step NAME TEXT COMMAND...: runs it with its output in a file; shows that file when it fails.
step() {
  local name=$1 text=$2 log="$LOGS/$1.log" begin=$EPOCHREALTIME status=0
  shift 2
  printf '  %-*s%-*s' $NAME_WIDTH "$name" $TEXT_WIDTH "$text"
  "$@" >"$log" 2>&1 </dev/null 9>&- || status=$?
  local us=$((${EPOCHREALTIME/[.,]/} - ${begin/[.,]/}))
  if [ $status -ne 0 ]; then
    printf ' failed\n\n' && cat "$log"
    printf '\n  %-*s%s\n' $NAME_WIDTH "$name" "failed with exit code $status; this output: $log"
    return 1
  fi
  printf '%5d.%d s\n' $((us / 1000000)) $((us / 100000 % 10))
}

readonly CARGO_MIN=85 # 1.85, Cargo.toml's rust-version

# usable_cargo: whether the cargo of PATH is new enough.
usable_cargo() {
  local minor
  minor=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
  [ "${minor:-0}" -ge $CARGO_MIN ]
}
