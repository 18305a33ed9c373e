"""What the measurements of the coordinator count: the real service's answers, to workers that only hold leases."""

from __future__ import annotations

import os

from bench.core_height import measure_heights
from bench.core_leases import measure_grants, measure_stops, measure_stops_on_the_wire
from bench.house import START_HEIGHT
from bench.jobs import BUILD_RANGE, ripening_jobs
from bench.processes import cpu_seconds, resident, tree_seconds
from hashfleet.difficulty import safe


async def test_a_grant_is_measured_for_each_lease_that_ended() -> None:
    seconds = await measure_grants(workers=5, samples=12)
    assert len(seconds) == 12
    assert min(seconds) > 0


async def test_a_stop_is_measured_for_each_job_that_all_devices_work_on() -> None:
    seconds = await measure_stops(devices=5, samples=3)
    assert len(seconds) == 3
    assert min(seconds) > 0


async def test_a_stop_is_measured_over_grpc() -> None:
    seconds = await measure_stops_on_the_wire(workers=3, samples=2)
    assert len(seconds) == 2
    assert min(seconds) > 0


def test_a_height_is_measured_for_each_case_of_what_is_known() -> None:
    figures = measure_heights(jobs=50, samples=2)
    assert len({figure.touched for figure in figures}) == 4
    assert all(len(figure.handled.seconds) == 2 for figure in figures)


def test_jobs_ripen_together_at_the_height_that_is_told_and_not_before() -> None:
    stage = ripening_jobs(10, (1, 3, 5), 30)
    assert stage.height == START_HEIGHT + 30
    for struct, request in zip(stage.structs, stage.requests, strict=True):
        anchor = START_HEIGHT - struct.age
        assert request.start_difficulty is not None
        # a proof is for the block after the committed one
        assert safe(stage.height + 1 - anchor, BUILD_RANGE) == request.start_difficulty
        assert safe(stage.height - anchor, BUILD_RANGE) > request.start_difficulty


def test_a_process_that_is_gone_takes_nothing() -> None:
    assert cpu_seconds(2**22 + 1) == tree_seconds(2**22 + 1) == 0.0


def test_this_process_takes_memory_and_time() -> None:
    assert tree_seconds(os.getpid()) >= cpu_seconds(os.getpid()) > 0
    assert resident(os.getpid()) > 1_000_000
