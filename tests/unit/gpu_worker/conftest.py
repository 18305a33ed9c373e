"""Makes the doubles of this folder importable, here and in spawned device processes, which inherit sys.path."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

DOUBLES = str(Path(__file__).parent / "doubles")
if DOUBLES not in sys.path:
    sys.path.append(DOUBLES)

from scripted_coordinator import ScriptedCoordinator  # noqa: E402
from scripted_engine import ScriptedEngine  # noqa: E402


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    """An honest device that goes on by itself."""
    made = ScriptedEngine()
    yield made
    made.end()


@pytest.fixture
def stepped() -> Iterator[ScriptedEngine]:
    """An honest device that hashes one batch for each call of `step`."""
    made = ScriptedEngine(stepped=True)
    yield made
    made.end()


@pytest.fixture
async def coordinator() -> AsyncIterator[ScriptedCoordinator]:
    """A coordinator on a local port that does what the test says."""
    async with ScriptedCoordinator() as made:
        yield made
