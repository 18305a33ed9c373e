#!/usr/bin/env bash
# Make the virtual environment $1 with the first Python of 3.11 or later; on Debian, install python3-venv if that is
# all that is missing and we may. Anything else that is missing is named in one sentence.
set -euo pipefail
venv=$1

python=
for candidate in ${PYTHON:-} python3.11 python3 python3.13 python3.12; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        python=$candidate
        break
    fi
done
if [[ -z $python ]]; then
    echo "No Python 3.11 or later is on the PATH; install one (Debian 12: apt-get install python3 python3-venv)." >&2
    exit 1
fi

works() { [[ -x $venv/bin/python ]] && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }

if ! works; then
    # ensurepip is what Debian splits off into python3-venv; without it `-m venv` leaves half an environment behind.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$python has no venv module: installing the Debian package python3-venv"
        if ! "$(dirname "$0")/apt_install.sh" python3-venv; then
            echo "Could not install python3-venv; do it as root (apt-get install python3-venv) and run make again." >&2
            exit 1
        fi
    fi
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
touch "$venv/.made"
