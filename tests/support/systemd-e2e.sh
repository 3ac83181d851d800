#!/bin/bash
# A real systemd for tests: boots /lib/systemd/systemd as PID 1 of namespaces of its own, on a throw-away
# overlay of this machine's root, in about half a second. Needs root; nothing to install.
#
#   systemd-e2e.sh up   -n NAME [options]    boots; prints the pid of the inner PID 1
#   systemd-e2e.sh exec -n NAME -- COMMAND   runs a command inside
#   systemd-e2e.sh root -n NAME              prints a path through which files go in and out
#   systemd-e2e.sh down -n NAME              powers off and leaves nothing: no process, mount or cgroup
#   systemd-e2e.sh run  [options] -- COMMAND up, exec, down; exits as COMMAND does
#
# options: --lower DIR           another root, such as a debootstrap tree
#          --bind SRC[:DST]      a directory of the host, writable (for honest syncs: the overlay is memory)
#          --ro-bind SRC[:DST]   the same, read-only
#          --cgroup v2|hybrid    default: hybrid where the host has v1 controllers, which then are enforced
#          --host-net            share the network; else there is only loopback
#          --unit TARGET         default multi-user.target
#          --timeout SECONDS     for booting, default 30
#
# What would else reach the machine below is closed: /proc/sys is read-only (systemd-sysctl would change
# it), clock and module rights are dropped, units that the host has enabled do not start. All mounts are
# in a private namespace, so that even kill -9 leaves none. At power-off systemd stops everything first,
# and a stopped nsenter would hold up the end of the namespace: `down` ends what was entered before.
set -euo pipefail
SELF=$(readlink -f "$0") CGR=/sys/fs/cgroup BINDS=()
[ "${1:-}" = __inner ] || { NAME=e2e LOWER=/ CG= NET=1 UNIT=multi-user.target TMO=30; }

die() { echo "systemd-e2e: $*" >&2; exit 125; }
hiers() { # cgroup directories of the host in which we make our own child
  if [ "$(stat -fc %T $CGR)" = cgroup2fs ]; then echo $CGR; return; fi
  local d; for d in $CGR/*; do
    [ -f "$d/cgroup.procs" ] && [ ! -L "$d" ] && [ "${d##*/}" != cpuset ] && echo "$d"
  done
  return 0
}
start_of() { local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; s=${s##*) }; set -- $s; echo "${20}"; }
pid1() { # host pid of the inner PID 1, verified against pid reuse
  local p s; read -r p s 2>/dev/null < "$ST/pid1" || return 1
  [ "$(start_of "$p")" = "$s" ] || return 1; echo "$p"
}

inner() { # PID 1 of the new namespaces; mounts a root, then becomes systemd
  set -e
  local S=/run/systemd-e2e/$NAME B R b src dst mode h
  B=$S/fs; mkdir -p "$B"
  mount -t tmpfs -o mode=0755 tmpfs "$B"; mkdir "$B"/{up,work,root}; R=$B/root
  mount -t overlay -o "lowerdir=$LOWER,upperdir=$B/up,workdir=$B/work" overlay "$R"
  mount -t tmpfs -o mode=0755,nosuid tmpfs "$R/dev"
  for b in null zero full random urandom tty; do cp -a /dev/$b "$R/dev/"; done
  [ -e /dev/fuse ] && cp -a /dev/fuse "$R/dev/" || true
  ln -s /proc/self/fd "$R/dev/fd"
  ln -s fd/0 "$R/dev/stdin"; ln -s fd/1 "$R/dev/stdout"; ln -s fd/2 "$R/dev/stderr"
  mkdir "$R"/dev/{pts,shm,mqueue,hugepages}; ln -s pts/ptmx "$R/dev/ptmx"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$R/dev/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$R/dev/shm"
  mount -t tmpfs -o mode=0755 tmpfs "$R/run"
  mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
  mount -t proc proc "$R/proc"
  # host-wide knobs are read-only: systemd-sysctl would else change the real machine
  mount --bind "$R/proc/sys" "$R/proc/sys"; mount -o remount,bind,ro "$R/proc/sys"
  [ -e "$R/proc/sysrq-trigger" ] && mount --bind /dev/null "$R/proc/sysrq-trigger" || true
  mount -t sysfs -o ro sysfs "$R/sys"
  if [ "$CG" = v2 ]; then mount -t cgroup2 -o nsdelegate cgroup2 "$R/sys/fs/cgroup" 2>/dev/null ||
                          mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
  else
    mount -t tmpfs -o mode=0755 tmpfs "$R/sys/fs/cgroup"
    while IFS=: read -r _ h _; do
      [ -n "$h" ] && [ "$h" != cpuset ] || continue; b=${h#name=}; mkdir "$R/sys/fs/cgroup/$b"
      case $h in name=*) h=none,$h;; esac
      mount -t cgroup -o "$h" cgroup "$R/sys/fs/cgroup/$b"
    done < /proc/self/cgroup
    mkdir -p "$R"/sys/fs/cgroup/{systemd,unified}
    mountpoint -q "$R/sys/fs/cgroup/systemd" || mount -t cgroup -o none,name=systemd cgroup "$R/sys/fs/cgroup/systemd"
    mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup/unified"
  fi
  for b in "${BINDS[@]}"; do
    IFS='|' read -r mode src dst <<<"$b"
    if [ -d "$src" ]; then mkdir -p "$R$dst"; else mkdir -p "$R${dst%/*}"; [ -e "$R$dst" ] || : > "$R$dst"; fi
    mount --rbind "$src" "$R$dst"; [ "$mode" = rw ] || mount -o remount,bind,ro "$R$dst"
  done
  # only vendor units: what the host has enabled (timers, databases) must not start here
  rm -rf "$R"/etc/systemd/system/*.wants "$R"/etc/systemd/system/*.requires
  for b in getty.target systemd-logind.service e2scrub_reap.service rsyslog.service systemd-timesyncd.service; do
    ln -sf /dev/null "$R/etc/systemd/system/$b"; done
  mkdir -p "$R/etc/systemd/journald.conf.d"
  printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\nRateLimitIntervalSec=0\nForwardToSyslog=no\n' \
     > "$R/etc/systemd/journald.conf.d/e2e.conf"
  tr -d - < /proc/sys/kernel/random/uuid > "$R/etc/machine-id"   # set: no first-boot presets
  [ "$NET" = 1 ] && ip link set lo up 2>/dev/null || true
  hostname "$NAME" 2>/dev/null || true
  mkdir "$R/run/.old"; cd "$R"; pivot_root . run/.old; umount -l /run/.old; rmdir /run/.old
  mount --make-rshared /          # LoadCredential=, mount propagation need it
  # no clock/module/rawio/klog rights for the guest; IPC_LOCK, SYS_NICE, SYS_ADMIN stay
  exec env -i container=e2e PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog \
    /lib/systemd/systemd --system --unit="$UNIT" --log-target=journal --show-status=no
}

up() {
  [ "$(id -u)" = 0 ] || die "needs root"
  down 2>/dev/null || true                  # a leftover of the same name
  mkdir -p "$ST"; chmod 700 "$ST"
  if [ -z "$CG" ]; then if grep -q '^[1-9][0-9]*:\(memory\|cpu\)' /proc/self/cgroup; then CG=hybrid; else CG=v2; fi; fi
  local h u p i st ns="--mount --uts --ipc --cgroup --pid"; [ "$NET" = 1 ] && ns="$ns --net"
  for h in $(hiers); do mkdir -p "$h/sde2e-$NAME"; done
  ( for h in $(hiers); do echo $BASHPID > "$h/sde2e-$NAME/cgroup.procs" || die "cannot join $h"; done
    export NAME LOWER CG NET UNIT; BINDS_S=$(printf '%s\n' "${BINDS[@]}"); export BINDS_S
    exec setsid unshare $ns --propagation private --fork --kill-child=KILL \
      "$SELF" __inner ) </dev/null >"$ST/log" 2>&1 &
  u=$!; echo "$u $(start_of $u)" > "$ST/outer"
  for ((i=0; i<TMO*20; i++)); do
    [ -d /proc/$u ] || { cat "$ST/log" >&2; down || true; die "boot failed"; }
    p=$(cat /proc/$u/task/$u/children 2>/dev/null || true); p=${p%% *}
    if [ -n "$p" ] && [ "$(cat /proc/$p/comm 2>/dev/null)" = systemd ]; then
      [ -e "$ST/pid1" ] || unjoin "$u"
      echo "$p $(start_of $p)" > "$ST/pid1"
      st=$(enter "$p" systemctl is-system-running 2>/dev/null || true)
      case $st in running|degraded) break;; esac
    fi
    sleep .05
  done
  case ${st:-} in running) ;; degraded) enter "$p" systemctl --no-pager --no-legend --plain list-units --failed >&2;;
    *) cat "$ST/log" >&2; down || true; die "no boot in ${TMO}s (state: ${st:-none})";; esac
  echo "$p"
}
unjoin() { # the outer waiter leaves the inner cgroup root (inside it would show as pid 0: EIO)
  local c h b; while IFS=: read -r _ c b; do
    if [ -z "$c" ]; then h=$CGR; [ -d $CGR/unified ] && h=$CGR/unified; else h=$CGR/${c#name=}; fi
    echo "$1" > "$h$b/cgroup.procs" 2>/dev/null || true
  done < /proc/$$/cgroup
}
enter() { local p=$1; shift
  local n="-m -u -i -p -C"; [ "/proc/$p/ns/net" -ef /proc/self/ns/net ] || n="$n -n"
  nsenter -t "$p" $n -r -w -- /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" SYSTEMD_PAGER= SYSTEMD_COLORS=0 "$@"
}
down() {
  local p s i h d rc=0
  if p=$(pid1); then
    # first what was nsenter'ed: systemd's final broadcast SIGSTOP would stop nsenter itself
    # (it copies its child's stop), and its unreaped child then blocks the end of PID 1
    ps -e -o pid=,ppid=,pidns= | awk -v p="$p" '{ns[$1]=$3; pp[$1]=$2}
      END {for (i in ns) if (i!=p && ns[i]==ns[p] && ns[pp[i]]!=ns[p]) print i}' |
      while read -r i; do kill -KILL "$i" 2>/dev/null || true; done
    kill -s RTMIN+4 "$p" 2>/dev/null || true                     # poweroff.target
    for ((i=0; i<300; i++)); do [ "$(start_of "$p")" = "$(cut -d' ' -f2 "$ST/pid1")" ] || break; sleep .05; done
    if p=$(pid1); then echo "systemd-e2e: no clean power-off, killing" >&2; kill -KILL "$p"; rc=1; fi
  fi
  if read -r p s 2>/dev/null < "$ST/outer" && [ "$(start_of "$p")" = "$s" ]; then
    for ((i=0; i<100; i++)); do [ "$(start_of "$p")" = "$s" ] || break; sleep .05; done
    [ "$(start_of "$p")" != "$s" ] || kill -KILL "$p" 2>/dev/null || true   # --kill-child ends the rest
  fi
  for h in $(hiers); do d=$h/sde2e-$NAME; [ -d "$d" ] || continue
    for ((i=0; i<100; i++)); do
      find "$d" -depth -type d -delete 2>/dev/null || true; [ -d "$d" ] || break; sleep .05
    done
    [ ! -d "$d" ] || { echo "systemd-e2e: cgroup left: $d" >&2; rc=1; }
  done
  rm -rf "$ST"; rmdir /run/systemd-e2e 2>/dev/null || true
  return $rc
}

if [ "${1:-}" = __inner ]; then
  BINDS=(); while IFS= read -r l; do [ -z "$l" ] || BINDS+=("$l"); done <<<"$BINDS_S"
  unset BINDS_S; inner
fi
cmd=${1:-}; [ $# -gt 0 ] && shift
bind() { local s=${2%%:*} d=${2#*:}; [ -e "$s" ] || die "no such path: $s"; BINDS+=("$1|$(readlink -f "$s")|$d"); }
while [ $# -gt 0 ]; do case $1 in
  -n) NAME=$2; shift 2;; --lower) LOWER=$(readlink -f "$2"); shift 2;; --cgroup) CG=$2; shift 2;;
  --bind) bind rw "$2"; shift 2;; --ro-bind) bind ro "$2"; shift 2;; --host-net) NET=0; shift;;
  --unit) UNIT=$2; shift 2;; --timeout) TMO=$2; shift 2;; --) shift; break;; *) die "bad option $1";; esac; done
[[ $NAME =~ ^[a-z0-9][a-z0-9-]{0,30}$ ]] || die "bad name"
ST=/run/systemd-e2e/$NAME
case $cmd in
  up) up;; down) down;;
  exec) p=$(pid1) || die "not up: $NAME"; enter "$p" "$@";;
  root) p=$(pid1) || die "not up: $NAME"; echo "/proc/$p/root";;
  run) [ $# -gt 0 ] || die "run: no command"; trap 'exit 130' INT TERM; trap 'down || true' EXIT
       p=$(up); rc=0; enter "$p" "$@" <&0 & w=$!   # in the background: else a signal waits for CMD
       wait $w || rc=$?; exit $rc;;
  *) sed -n '2,23p' "$SELF"; exit 2;;
esac
