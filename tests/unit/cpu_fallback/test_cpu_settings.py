"""Whatever is chosen on a CPU, it finds what hashlib finds; and what a choice holds for."""

from __future__ import annotations

from contextlib import closing

import pytest

from cpu_fallback import settings
from cpu_fallback.engine import STREAMS, TARGETS, CpuEngine
from cpu_fallback.search import search_range
from cpu_fallback.settings import CpuSettings, candidates, default_settings, device_model
from hashfleet.errors import InvalidInput
from hashfleet.message import NonceSpace
from hashfleet.self_test import SHARED, SHORT

START, COUNT = 8_999_123, 300_000


@pytest.fixture(scope="module")
def wanted() -> dict[NonceSpace, list[int]]:
    """The hits of hashlib by space."""
    return {
        space: list(search_range(space.constant, space.counter_digits, START, COUNT, 3, space.filler_digits))
        for space in (SHARED, SHORT)
    }


@pytest.mark.parametrize("streams", STREAMS)
def test_any_number_of_streams_finds_the_hits_of_hashlib(streams: int, wanted: dict[NonceSpace, list[int]]) -> None:
    with closing(CpuEngine(1, niceness=0, streams=streams, compile_first=True)) as engine:
        for space, hits in wanted.items():
            assert [hit for batch in engine.search(space, START, COUNT, 3) for hit in batch.hits] == hits
        assert "hashlib" not in engine.device.driver


@pytest.mark.parametrize("streams", [0, -1, 5])
def test_a_number_of_streams_that_no_kernel_has_is_refused(streams: int) -> None:
    with pytest.raises(InvalidInput, match="number of streams"):
        CpuEngine(1, streams=streams)


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_the_candidates_are_different_none_is_the_default_and_the_engine_knows_their_targets(cores: int) -> None:
    tried = candidates(cores)

    assert len(set(tried)) == len(tried)
    assert default_settings() not in tried
    assert {each.target for each in tried} <= set(TARGETS)
    assert all(each.processes is None or 1 <= each.processes < cores for each in tried)


def test_a_measurement_holds_for_so_many_cores_and_these_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    before = device_model(2)
    assert device_model(2) == before
    assert device_model(4).name != before.name
    monkeypatch.setattr(settings, "candidates", lambda cores: (CpuSettings("sse2"),))

    assert device_model(2).kernels != before.kernels


def test_a_measurement_holds_for_this_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    before = device_model(2)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")

    assert device_model(2).driver != before.driver
