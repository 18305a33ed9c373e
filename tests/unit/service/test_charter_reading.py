"""A charter as a job reads it: who solves it, and whether the founder agrees to it."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from coordinator.chain.client import ChainClient, SigningRight, WorkReading
from coordinator.charter import read_charter
from coordinator.submission import keys
from coordinator.submission.consent import sign_consent
from hashfleet.action import Action, CharterTerms, Work
from hashfleet.charter import Consent, Founding
from hashfleet.errors import KeyProblem, WorkPaused
from hashfleet.job_request import JobRequest, Mode

SOLVER, FOUNDER, STRANGER = (keys.from_hex(digit * 64) for digit in "123")
FOUNDING = Founding("3-1", "my guild", "4-1")
ANCHOR = 2283000


class Chain:
    """Knows whose each address is, and one charter."""

    chain_id = "devnet-1"

    def __init__(self, *, names_chain: bool = True) -> None:
        self.names_chain = names_chain
        self.players = {SOLVER.address: "1-42", FOUNDER.address: "1-7", STRANGER.address: "1-9"}
        self.anchor = ANCHOR
        self.asked: list[str] = []
        self.reactors: list[str] = []

    async def check_signer(self, address: str, action: Action, object_id: str) -> SigningRight:
        self.asked.append(address)
        if address not in self.players:
            raise KeyProblem(f"the address {address} is not registered")
        return SigningRight(self.players[address], object_id)

    async def read_charter(self, founder_id: str, solver_id: str, reactor_id: str = "") -> WorkReading:
        self.reactors.append(reactor_id)
        terms = CharterTerms(self.chain_id if self.names_chain else None, solver_id)
        work = Work(Action.CHARTER, founder_id, self.anchor, 2_500_000, charter=terms)
        return WorkReading(work, frozenset({"charter"}), "CHARTER")


def request(consent: Consent | None = None, founder: str = "1-7", mode: Mode = Mode.SUBMIT) -> JobRequest:
    return JobRequest(Action.CHARTER, founder, "1-5", mode=mode, founding=replace(FOUNDING, consent=consent))


async def read(chain: Chain, asked: JobRequest, signer: str = SOLVER.address) -> WorkReading:
    return await read_charter(cast("ChainClient", chain), asked, signer)


def agreed(key: keys.SigningKey = FOUNDER, anchor: int = ANCHOR) -> Consent:
    return sign_consent(key, "devnet-1", "1-7", FOUNDING, anchor)


def solver_of(reading: WorkReading) -> str:
    assert reading.work.charter is not None
    return reading.work.charter.solver_id


async def test_the_solver_is_the_player_of_the_signing_key_whoever_asked() -> None:
    assert solver_of(await read(Chain(), request(agreed()))) == "1-42"


async def test_a_consent_names_the_chain_also_where_the_puzzle_does_not() -> None:
    chain = Chain(names_chain=False)
    assert solver_of(await read(chain, request(agreed()))) == "1-42"
    with pytest.raises(WorkPaused, match="--chain-id devnet-1 --founder 1-7"):
        await read(chain, request())


async def test_the_founders_own_key_needs_no_consent() -> None:
    assert solver_of(await read(Chain(), request(), FOUNDER.address)) == "1-7"


async def test_where_the_proof_is_returned_the_jobs_player_solves_it_and_nobody_is_asked() -> None:
    chain = Chain()
    assert solver_of(await read(chain, request(mode=Mode.RETURN_PROOF), "")) == "1-5"
    assert chain.asked == []


@pytest.mark.parametrize("mode", Mode)
async def test_the_reactor_is_asked_about_with_each_reading(mode: Mode) -> None:
    chain = Chain()
    await read(chain, request(agreed(), mode=mode))
    assert chain.reactors == ["3-1"]


async def test_a_key_that_may_not_sign_is_said_before_anything_is_hashed() -> None:
    with pytest.raises(KeyProblem, match="not registered"):
        await read(Chain(), request(agreed()), "structs1nobody")


async def test_a_missing_consent_pauses_and_says_the_command_that_signs_it() -> None:
    with pytest.raises(WorkPaused) as caught:
        await read(Chain(), request())
    assert str(caught.value) == (
        "player 1-42 solves the charter of player 1-7, who has to consent: run hashfleet charter consent --chain-id "
        "devnet-1 --founder 1-7 --reactor 3-1 --endpoint 'my guild' --substation 4-1 --anchor 2283000 with the "
        "founder's key, and submit the job again with that consent"
    )
    assert caught.value.depends_on == {"charter"}


async def test_a_moved_anchor_voids_the_consent_and_names_the_new_one() -> None:
    chain = Chain()
    assert await read(chain, request(agreed()))
    chain.anchor += 900
    with pytest.raises(WorkPaused, match=r"is not for this founding: .*; player 1-7 has to consent anew: .*2283900"):
        await read(chain, request(agreed()))
    assert await read(chain, request(agreed(anchor=chain.anchor)))


async def test_a_consent_of_somebody_else_pauses() -> None:
    with pytest.raises(WorkPaused, match=f"address {STRANGER.address} belongs to player 1-9, not to the founder"):
        await read(Chain(), request(agreed(STRANGER)))


async def test_a_consent_of_an_address_that_lost_its_right_pauses_and_is_watched() -> None:
    chain = Chain()
    watched = f"8-{FOUNDER.address}@"
    assert watched in (await read(chain, request(agreed()))).depends_on
    del chain.players[FOUNDER.address]
    with pytest.raises(WorkPaused, match="not registered; player 1-7 has to consent anew") as caught:
        await read(chain, request(agreed()))
    assert watched in caught.value.depends_on
