# Source this (`. scripts/env.sh`, from the top of the checkout) to have the pinned deno on PATH and
# its caches below .tools/. Fetches what is missing.
#
# A script that sources it from elsewhere sets afs_checkout first.
afs_checkout=${afs_checkout:-$PWD}
if [ ! -f "$afs_checkout/scripts/setup" ]; then
  echo "Cannot set up: source scripts/env.sh from the top of the checkout" >&2
  unset afs_checkout
  return 1
fi
sh "$afs_checkout/scripts/setup" || {
  unset afs_checkout
  return 1
}
. "$afs_checkout/scripts/pins.sh"

case :$PATH: in
  *":$afs_checkout/.tools/bin:"*) ;;
  *) PATH=$afs_checkout/.tools/bin:$PATH ;;
esac
export PATH
export DENO_DIR="$afs_checkout/.tools/deno_dir" DENO_NO_UPDATE_CHECK=1
# Also the system's certificates: a proxy that opens TLS puts its own there.
export DENO_TLS_CA_STORE="${DENO_TLS_CA_STORE:-system,mozilla}"
# Absent when Deno's own download was in reach: deno then finds that in DENO_DIR.
DENORT_BIN=$afs_checkout/.tools/denort-$afs_deno_version-$(afs_host_target)
if [ -x "$DENORT_BIN" ]; then export DENORT_BIN; else unset DENORT_BIN; fi
unset afs_checkout
