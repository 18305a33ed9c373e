#!/usr/bin/env bash
# Install Debian packages if this is a Debian and we are root or may become it without a password; else exit 1.
set -euo pipefail

command -v apt-get >/dev/null || exit 1
as_root=()
if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || exit 1
    as_root=(sudo -n)
fi

# Update only if needed: a list that is there is good enough for most machines, and much quicker.
# A lock held by another apt is waited for rather than failed on.
install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "$@" </dev/null
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! install "$@" >"$log" 2>&1; then
    if ! { "${as_root[@]}" apt-get update --quiet && install "$@"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        exit 1
    fi
fi
