#!/usr/bin/env bash
# What the tests need beyond Python packages, so that both GPU engines are tested on machines without a GPU: an OpenCL
# CPU platform runs the OpenCL kernels, and a C++ compiler runs the CUDA kernel's arithmetic on the host. A PostgreSQL
# server plays a guild stack's database.
#   $1  python of the virtual environment
#   $2  "require": install what is missing, and fail if that cannot be done; "skip": say what is not tested and go on
set -euo pipefail
python=$1 mode=$2
here=$(dirname "$0")

case $mode in require | skip) ;; *)
    echo "PREREQUISITES is \"$mode\"; it should be require or skip." >&2
    exit 1
    ;;
esac

said=$(mktemp)
trap 'rm -f "$said"' EXIT

# In a process of its own and with its words kept: a broken driver aborts rather than raises.
opencl_platform() {
    ("$python" - <<'PYTHON') >"$said" 2>&1
import sys
import pyopencl as cl
try:
    platforms = cl.get_platforms()
except cl.Error as error:
    sys.exit(f"pyopencl finds no platform: {error}")
if not any(device.type & cl.device_type.CPU for platform in platforms for device in platform.get_devices()):
    sys.exit(f"no CPU device among the OpenCL platforms {[platform.name for platform in platforms]}")
PYTHON
}

cxx_compiler() {
    local name
    for name in c++ g++ clang++; do
        command -v "$name" >/dev/null && return
    done
    echo "none of c++, g++ and clang++ is on the PATH" >"$said"
    return 1
}

postgres_server() {
    local folder
    for folder in "$(dirname "$(command -v postgres || echo /none)")" /usr/lib/postgresql/*/bin; do
        [[ -x $folder/postgres && -x $folder/initdb ]] && return
    done
    echo "no postgres on the PATH and none in /usr/lib/postgresql" >"$said"
    return 1
}

#   $1  the check  $2  what is missing, in words  $3  Debian package  $4  what is then not tested
provide() {
    "$1" && return
    if [[ $mode == skip ]]; then
        echo "** PREREQUISITES=skip: $2 is missing, so $4 NOT tested in this run. **" >&2
        return
    fi
    echo "$2 is missing: installing the Debian package $3"
    "$here/apt_install.sh" "$3" && "$1" && return
    cat >&2 <<SAY

  $2 is missing and could not be installed, so $4 not tested.
  Install it as root (Debian: apt-get install $3) and run \`make test\` again,
  or run \`make test PREREQUISITES=skip\` to test everything else. What was found:

SAY
    tail -n 5 "$said" >&2
    exit 1
}

provide opencl_platform "an OpenCL CPU platform" pocl-opencl-icd "the OpenCL engine is"
provide cxx_compiler "a C++ compiler" g++ "the CUDA kernel's arithmetic is"
provide postgres_server "a PostgreSQL server" postgresql "the guild stack is"
