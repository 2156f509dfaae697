#!/bin/sh
# The first process of the container: mounts a repository, runs a command in it, and ends with its
# exit code; without a command it keeps the mount until it gets a signal.
#
#   REPO_REMOTE_URL    what git clone takes; may hold a login, which the command does not see
#   REPO_REF           branch, tag or commit (default: the remote's HEAD); REPO_BRANCH is the same
#   REPO_WAIT          "history": begin when the history is here too
#   REPO_NAME          its name, and its directory below MOUNT_ROOT (default: repo)
#   MOUNT_ROOT         default: /mnt
#   ARTIFACT_FS_ROOT   the state root; on a volume, what was changed is there the next time
#
# Signals are passed on to the command. Orphans are reaped by `wait`, which this shell is in until
# the end. Whatever happens, the daemon is ended last: it unmounts.
set -u

url=${REPO_REMOTE_URL:-https://github.com/cloudflare/workers-sdk.git}
wait=${REPO_WAIT:-}
ref=${REPO_REF:-${REPO_BRANCH:-}}
name=${REPO_NAME:-repo}
root=${MOUNT_ROOT:-/mnt}
ARTIFACT_FS_ROOT=${ARTIFACT_FS_ROOT:-/var/lib/artifact-fs}
export ARTIFACT_FS_ROOT
unset REPO_REMOTE_URL

# Who gets a signal now; empty: nobody at the moment.
child=
# What runs is on the way to the command, or to the long wait: who comes next gets the signal too,
# which may be too late for this one.
preparing=1
# What runs is the command.
command=
# A signal for who comes next.
pending=
# A signal has come since the last look.
signalled=
pass_on() {
  signalled=$1
  if [ -z "$child" ] || [ -n "$preparing" ]; then pending=$1; fi
  # Only a command knows what they mean.
  case $1 in USR*) [ -n "$command" ] || return 0 ;; esac
  [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null || :
}
for signal in TERM HUP USR1 USR2; do trap "pass_on $signal" "$signal"; done
for signal in INT QUIT; do
  # A terminal has told the command itself.
  if [ -t 0 ]; then trap "signalled=$signal" "$signal"; else trap "pass_on $signal" "$signal"; fi
done

# Waits for a process to its end; $code is its exit code. A signal only interrupts the waiting.
wait_for() {
  child=$1
  code=
  if [ -n "$pending" ] && [ -z "$preparing" ]; then
    signal=$pending
    pending=
    pass_on "$signal"
  fi
  while :; do
    signalled=
    wait "$child"
    status=$?
    # It had ended before, and the shell knows it no more.
    if [ "$status" = 127 ] && [ -n "$code" ]; then break; fi
    code=$status
    [ -n "$signalled" ] || break
  done
  child=
}

# In a session of its own: what a terminal sends is for the command.
socket=$ARTIFACT_FS_ROOT/control.sock
mkdir -p "$root" "$ARTIFACT_FS_ROOT" || exit 1
started=$(mktemp "$ARTIFACT_FS_ROOT/.started.XXXXXX") || exit 1
setsid afs daemon --root "$root" &
daemon=$!

# Of a daemon before, the socket may be there; it is older.
until [ "$socket" -nt "$started" ]; do
  if ! kill -0 "$daemon" 2>/dev/null; then
    rm -f "$started"
    wait_for "$daemon"
    exit "$code"
  fi
  sleep 0.05
done
rm -f "$started"

# Ends the daemon, and then this with a code.
leave() {
  preparing=
  pending=
  kill -s TERM "$daemon" 2>/dev/null
  wait_for "$daemon"
  exit "$1"
}

# Nothing is begun any more.
[ -z "$pending" ] || leave 143
afs mount --name "$name" ${ref:+--ref "$ref"} ${wait:+--wait "$wait"} "$url" "$root/$name" >&2 &
wait_for $!
[ "$code" = 0 ] || leave "$code"
unset url
preparing=

if [ $# = 0 ]; then
  wait_for "$daemon"
  exit "$code"
fi
cd "$root/$name" || leave 1
# A shell gives a process in the background no standard input, and has it ignore INT and QUIT.
exec 3<&0
command=1
env --default-signal=INT,QUIT -- "$@" <&3 3<&- &
exec 3<&-
wait_for $!
command=
cd /
leave "$code"
