"""What the service tells the core of the chain's readings and blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from coordinator.chain.client import Block, WorkReading
from coordinator.core.events import BlockCommitted, Event, WorkNotRead, WorkRead
from coordinator.core.state import Outbox
from hashfleet.action import Action
from hashfleet.errors import WorkPaused
from hashfleet.job_request import JobRequest

from .conftest import KEY, START, WORKS, Coordinator


@pytest.fixture
async def heard(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Queue[Event]]:
    """Every event from outside that the core is handed, in order."""
    events: asyncio.Queue[Event] = asyncio.Queue()
    machine = coordinator.service._machine
    handle = machine.handle

    def noted(event: Event) -> Outbox:
        events.put_nowait(event)
        return handle(event)

    monkeypatch.setattr(machine, "handle", noted)
    yield events


async def first(heard: asyncio.Queue[Event], kind: type[Event]) -> Event:
    async with asyncio.timeout(10):
        while True:
            event = await heard.get()
            if isinstance(event, kind):
                return event


async def test_a_reading_brings_what_the_work_hangs_on_and_the_rights_of_the_key(
    coordinator: Coordinator, heard: asyncio.Queue[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_work(action: Action, object_id: str) -> WorkReading:
        return WorkReading(WORKS[object_id], frozenset({object_id, "2-9"}), "2-9/MINE")

    monkeypatch.setattr(coordinator.chain, "read_work", read_work)
    await coordinator.service.submit(JobRequest(Action.BUILD, "5-1", "1-11"))
    event = await first(heard, WorkRead)
    assert isinstance(event, WorkRead)
    assert (event.work, event.clock) == (WORKS["5-1"], "2-9/MINE")
    assert event.depends_on == {"5-1", "2-9", f"8-{KEY.address}@"}


async def test_a_pause_brings_what_can_end_it(
    coordinator: Coordinator, heard: asyncio.Queue[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_work(action: Action, object_id: str) -> WorkReading:
        error = WorkPaused("struct 5-1 is offline")
        error.depends_on = frozenset({"5-1"})
        raise error

    monkeypatch.setattr(coordinator.chain, "read_work", read_work)
    await coordinator.service.submit(JobRequest(Action.BUILD, "5-1", "1-11"))
    event = await first(heard, WorkNotRead)
    assert isinstance(event, WorkNotRead)
    assert event.depends_on == {"5-1"}


async def test_a_block_brings_what_it_changed(coordinator: Coordinator, heard: asyncio.Queue[Event]) -> None:
    coordinator.chain._news.put_nowait(Block(START + 1, 6000.0, frozenset({"5-3"})))
    while True:
        event = await first(heard, BlockCommitted)
        assert isinstance(event, BlockCommitted)
        if event.height == START + 1:
            break
    assert event.touched == {"5-3"}
