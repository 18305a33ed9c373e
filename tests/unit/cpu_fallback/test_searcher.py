"""Which code searches what, and that hashlib steps in wherever a kernel cannot."""

from __future__ import annotations

import builtins
import hashlib
import sys

import pytest

from cpu_fallback import kernel_search
from cpu_fallback.jit import Target, find_target
from cpu_fallback.searcher import KERNEL_ADVANTAGE, SHAPES, Searcher, shape_of
from hashfleet.errors import EngineUnavailable, SelfTestFailed
from hashfleet.message import NonceSpace, lay_out

PREFIX = b"5-28BUILD679575NONCE"
SPACES = {
    "T": lay_out(PREFIX, "417203000017", 12, 200),
    "S12": lay_out(PREFIX, "417203000017", 12, 35),
    "S13": NonceSpace(PREFIX, "00000417203000017", 18),
    "": NonceSpace(PREFIX, "417203000017", 12),
}
#: A filler that is not shape T's.
ODD = NonceSpace(PREFIX, "417", 9, 10)


class Recorded:
    """A kernel that hashes 320,000 nonces for any range, and finds nothing."""

    def __init__(self) -> None:
        self.searched: list[tuple[int, int]] = []

    def hashes(self, start: int, count: int) -> int:
        return max(count, 320_000)

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> tuple[int, ...]:
        self.searched.append((start, count))
        return ()


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Instead of every kernel."""
    kernel = Recorded()
    monkeypatch.setattr(kernel_search, "compile_search", lambda shape, target: kernel)
    return kernel


def by_hashlib(space: NonceSpace, start: int, count: int) -> tuple[int, ...]:
    return tuple(c for c in range(start, start + count) if hashlib.sha256(space.message(c)).digest() < b"\x10")


@pytest.mark.parametrize("shape", SPACES)
def test_a_space_is_told_by_its_shape(shape: str) -> None:
    assert shape_of(SPACES[shape]) == shape


@pytest.mark.parametrize("space", [*SPACES.values(), ODD])
def test_hashlib_searches_every_space(space: NonceSpace) -> None:
    searcher = Searcher("hashlib")

    assert searcher.search(space, 19_500, 3_000, 1) == by_hashlib(space, 19_500, 3_000)
    assert not any(searcher.wait_for(shape) for shape in SHAPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_range_that_pays_goes_to_the_kernel_once_it_is_ready(recorded: Recorded, shape: str) -> None:
    searcher = Searcher()
    assert searcher.wait_for(shape)
    searcher.search(SPACES[shape], 5, 20_000, 9)

    assert recorded.searched == [(5, 20_000)]


def test_a_range_that_would_leave_a_kernel_mostly_idle_goes_to_hashlib(recorded: Recorded) -> None:
    searcher = Searcher()
    searcher.wait_for("T")
    short = 320_000 // KERNEL_ADVANTAGE[find_target("host").form.lanes] - 1

    assert searcher.search(SPACES["T"], 7, short, 1) == by_hashlib(SPACES["T"], 7, short)
    assert recorded.searched == []


@pytest.mark.parametrize("space", [SPACES[""], ODD])
def test_a_space_without_a_kernel_goes_to_hashlib(recorded: Recorded, space: NonceSpace) -> None:
    searcher = Searcher()
    for shape in SHAPES:
        searcher.wait_for(shape)

    assert searcher.search(space, 0, 30_000, 1) == by_hashlib(space, 0, 30_000)
    assert recorded.searched == []


def test_a_kernel_is_compiled_when_its_first_space_comes(recorded: Recorded) -> None:
    searcher = Searcher()
    searcher.search(SPACES["S13"], 0, 1, 9)
    assert set(searcher._decided) == {"S13"}
    searcher._decided["S13"].wait(30)
    searcher.search(SPACES["S13"], 0, 320_000, 9)

    assert recorded.searched == [(0, 320_000)]


def test_hashlib_goes_on_where_a_kernel_fails_and_the_reason_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(shape: str, target: Target) -> Recorded:
        raise SelfTestFailed(f"the {target.name} code for shape {shape} does not compute SHA-256 rightly")

    monkeypatch.setattr(kernel_search, "compile_search", fails)
    searcher = Searcher()

    assert not searcher.wait_for("T")
    assert searcher.search(SPACES["T"], 0, 30_000, 1) == by_hashlib(SPACES["T"], 0, 30_000)
    assert f"{find_target('host').name} code for shape T does not compute SHA-256 rightly; hashlib" in searcher.trouble


@pytest.fixture
def without_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where llvmlite is not installed, or its library does not load."""
    monkeypatch.delitem(sys.modules, "cpu_fallback.jit", raising=False)
    for module in [name for name in sys.modules if name.split(".")[0] == "llvmlite"]:
        monkeypatch.delitem(sys.modules, module)
    real = builtins.__import__

    def blocked(name: str, *arguments: object) -> object:
        if name.split(".")[0] == "llvmlite":
            raise ImportError("libLLVM is missing")
        return real(name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", blocked)


def test_without_llvm_hashlib_searches_and_says_why(without_llvm: None) -> None:
    searcher = Searcher()

    assert searcher.trouble == ("LLVM cannot be loaded (libLLVM is missing); hashlib hashes instead, many times slower")
    assert searcher.code == "hashlib"
    assert not searcher.wait_for("T")
    assert searcher.search(SPACES["T"], 0, 3_000, 1) == by_hashlib(SPACES["T"], 0, 3_000)


def test_without_llvm_a_target_asked_for_by_name_is_refused(without_llvm: None) -> None:
    with pytest.raises(EngineUnavailable, match="LLVM, which sse2 needs, cannot be loaded"):
        Searcher("sse2")
