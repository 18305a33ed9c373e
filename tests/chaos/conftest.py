"""Makes the helpers beside the programs that play runs importable; the programs themselves run as processes."""

from __future__ import annotations

import sys
from pathlib import Path

DOUBLES = str(Path(__file__).parent / "doubles")
if DOUBLES not in sys.path:
    sys.path.append(DOUBLES)
