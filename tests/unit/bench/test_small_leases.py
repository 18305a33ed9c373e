"""The measurement of small leases runs and counts."""

from __future__ import annotations

from bench.small_leases import measure, measure_on_the_wire


def test_small_leases_are_worked_off_and_counted() -> None:
    outcome = measure(zeros=1, max_nonce_digits=137, processes=1, seconds=0.5)
    assert outcome.leases > 0
    assert outcome.worker_seconds > 0
    assert outcome.messages < outcome.leases
    assert "leases a second" in outcome.lines()[0]


async def test_small_leases_are_worked_off_through_grpc_too() -> None:
    outcome = await measure_on_the_wire(zeros=1, max_nonce_digits=137, processes=1, seconds=1.5)
    assert 0 < outcome.messages < outcome.leases
