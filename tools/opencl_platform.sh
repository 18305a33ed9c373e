#!/usr/bin/env bash
# See to it that an OpenCL CPU platform is there, so that the OpenCL engine is tested on machines without a GPU.
#   $1  python of the virtual environment
#   $2  "require": fail where there is none; "skip": say so and go on
set -euo pipefail
python=$1 mode=$2

said=$(mktemp)
trap 'rm -f "$said"' EXIT

# In a process of its own and with its words kept: a broken driver aborts rather than raises.
present() {
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

case $mode in require | skip) ;; *)
    echo "OPENCL is \"$mode\"; it should be require or skip." >&2
    exit 1
    ;;
esac
present && exit 0
if [[ $mode == require ]]; then
    echo "no OpenCL CPU platform here: installing the Debian package pocl-opencl-icd"
    "$(dirname "$0")/apt_install.sh" pocl-opencl-icd && present && exit 0
    cat >&2 <<'SAY'

  The OpenCL engine cannot be tested: this machine has no OpenCL CPU platform, and none could be installed.
  Install one as root (Debian: apt-get install pocl-opencl-icd) and run `make test` again,
  or run `make test OPENCL=skip` to test everything else. What was found:

SAY
    tail -n 5 "$said" >&2
    exit 1
fi
cat >&2 <<'SAY'

  ** OPENCL=skip: no OpenCL CPU platform here, so the OpenCL engine is NOT tested in this run. **

SAY
