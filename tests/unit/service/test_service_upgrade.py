"""An upgrade of the chain, seen by a whole coordinator: a real chain client on an embedded chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.chain.failover import FailoverClient
from coordinator.core.job import JobState
from coordinator.submission import keys
from devnet.node import Devnet
from hashfleet.action import Action
from hashfleet.job_request import JobRequest

from .conftest import Coordinator, serving

#: The public test mnemonic; the demo scenario's player 1-11 has its address.
OWNER = keys.from_mnemonic("abandon " * 11 + "about")
START = 100_000
RIPE = START - 14_000


@pytest.fixture
async def devnet() -> AsyncIterator[Devnet]:
    """The demo chain as v0.20, its rig ripe; blocks come only when a test asks for them."""
    async with Devnet(scenario_name="demo", start_height=START, version="v0.20") as made:
        made.set_anchor(Action.MINE, "5-104", RIPE)
        yield made


@pytest.fixture
async def coordinator(devnet: Devnet, tmp_path: Path) -> AsyncIterator[Coordinator]:
    # Nothing but the pushed block leads to a reading: the probes and the silence are far off.
    chain = FailoverClient.of(
        [devnet.grpc_address], [], [devnet.rpc_url], devnet.chain_id, silence_seconds=600, probe_seconds=600
    )
    async with serving(chain, OWNER, tmp_path) as made:
        yield made


async def until_seen(coordinator: Coordinator, height: int) -> None:
    async with asyncio.timeout(20):
        while True:
            if (await coordinator.service.fleet()).height >= height:
                return
            await asyncio.sleep(0.01)


async def test_at_an_upgrades_block_a_running_mine_job_is_given_the_new_anchor(
    coordinator: Coordinator, devnet: Devnet
) -> None:
    view, _ = await coordinator.service.submit(JobRequest(Action.MINE, "5-104", "1-11"))
    async with coordinator.worker() as worker:
        lease = (await worker.hear("lease")).lease
        before = await devnet.advance()  # its events are told in full: nothing of ours changed
        await until_seen(coordinator, before)
        upgraded = await devnet.upgrade("v0.21")
        assert (await worker.hear("cancel_lease")).cancel_lease.lease_id == lease.lease_id
        job = (await coordinator.service.job(view.job.job_id)).job
    assert job.work is not None
    assert job.work.anchor == upgraded == devnet.height
    assert job.state is not JobState.RUNNING  # a clock that just started is not worth hashing yet
