"""A charter that was solved for a key which may not sign any more: it is solved anew, for a key that may."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.chain.client import SigningRight, WorkReading
from coordinator.core.job import FoundProof, Job, JobState
from coordinator.service import Service
from coordinator.store.sql import open_store
from coordinator.submission.consent import sign_consent
from coordinator.submission.keys import SigningKey
from hashfleet.action import Action, CharterTerms, Work
from hashfleet.charter import Founding
from hashfleet.errors import KeyProblem
from hashfleet.job_request import JobRequest
from hashfleet.proof import Proof, verify

from .conftest import KEY, OneNodeChain

#: Another player's key; and a key of the founder that no coordinator has.
OTHER_KEY, FOUNDERS_KEY = (SigningKey(bytes(range(start, start + 32))) for start in (2, 3))
PLAYERS = {OTHER_KEY.address: "1-8", FOUNDERS_KEY.address: "1-7"}
ANCHOR = 1000


class ChainOfCharters(OneNodeChain):
    """KEY is of player 1-7 and may not sign any more."""

    async def check_signer(self, address: str, action: Action, object_id: str) -> SigningRight:
        if address not in PLAYERS:
            raise KeyProblem(f"the address {address} of player 1-7 lacks PermPlay (1)")
        return SigningRight(PLAYERS[address], object_id)

    async def read_charter(self, founder_id: str, solver_id: str, reactor_id: str = "") -> WorkReading:
        return WorkReading(charter(founder_id, solver_id), frozenset({"charter"}), "CHARTER")


def charter(founder_id: str, solver_id: str) -> Work:
    return Work(Action.CHARTER, founder_id, ANCHOR, 200, charter=CharterTerms("test-1", solver_id))


def solved(work: Work) -> Proof:
    return next(proof for number in itertools.count() if (proof := verify(work.prefix, str(number))).zeros >= 2)


def under_way() -> Job:
    """Solved by player 1-7 for itself, about to be sent; the founder's consent was given beforehand."""
    work = charter("1-7", "1-7")
    founding = Founding("3-1", "guild.example")
    founding = replace(founding, consent=sign_consent(FOUNDERS_KEY, "test-1", "1-7", founding, ANCHOR))
    request = JobRequest(Action.CHARTER, "1-7", "1-7", founding=founding)
    found = FoundProof(solved(work), "w_1", 256, 1.0)
    return Job("pow_guild", request, JobState.SUBMITTING, 1.0, 1.0, work=work, found=found, signer=KEY.address)


@pytest.mark.parametrize("keys", [(KEY, OTHER_KEY), (OTHER_KEY,)], ids=["lost its right", "is not there any more"])
async def test_a_charter_whose_key_may_not_sign_any_more_is_solved_anew_for_another_player(
    tmp_path: Path, keys: Sequence[SigningKey]
) -> None:
    store = await open_store(tmp_path / "jobs.db")
    await store.save_jobs([under_way()])
    chain = ChainOfCharters()
    service = Service(chain, store, keys)
    running = asyncio.create_task(service.run())
    async with asyncio.timeout(10):
        while (await service.job("pow_guild")).job.state is JobState.SUBMITTING:  # noqa: ASYNC110 - it is not known yet
            await asyncio.sleep(0.01)
        async for seen in service.watch("pow_guild"):
            if seen.job.state.final or seen.job.work == charter("1-7", "1-8"):
                break
    assert (seen.job.state, seen.job.work) == (JobState.RUNNING, charter("1-7", "1-8"))
    assert seen.job.signer == OTHER_KEY.address
    assert (seen.job.found, seen.job.best) == (None, None)
    assert chain.sent == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()
