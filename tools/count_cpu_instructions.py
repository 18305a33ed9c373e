"""Print, as JSON, how many instructions the CPU kernels spend on a hash: one object per shape and target.

Run from the checkout: ``python tools/count_cpu_instructions.py``. It compiles, but runs nothing, so any machine gives
the counts of all targets.
"""

from __future__ import annotations

import json
import sys

from cpu_fallback.count import count_instructions
from cpu_fallback.jit import portable_target
from cpu_fallback.searcher import SHAPES

TARGETS = ("avx512", "avx2", "sse2")


def main() -> None:
    """Count every shape for every target."""
    rows = [count_instructions(shape, portable_target(target)).as_json() for target in TARGETS for shape in SHAPES]
    json.dump(rows, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
