"""The puzzle of a charter as one job poses it: who solves it, and whether the founder agrees.

A charter's puzzle names the solver, so the signing key is known before anything is hashed. If it is not the founder's,
the founder's consent is checked with every reading: it names the anchor, so any guild that is founded makes it void.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from coordinator.chain.block_events import permissions_on
from coordinator.chain.client import ChainClient, WorkReading
from coordinator.submission.consent import check_consent
from hashfleet.action import ADDRESS_TYPE, Action, Work
from hashfleet.charter import Founding
from hashfleet.errors import InvalidInput, KeyProblem, WorkPaused
from hashfleet.job_request import JobRequest, Mode


async def read_charter(chain: ChainClient, request: JobRequest, signer: str) -> WorkReading:
    """The puzzle of the guild that is asked for, with `signer` as the address that signs for it.

    Where the proof is returned, the job's player is the solver, and nobody's consent or right is looked at. Raises
    WorkPaused if the founder's consent is missing or void, which says what to sign; KeyProblem if the signing address
    may not do it; and what `ChainClient.read_charter` raises.
    """
    founder, founding = request.object_id, request.founding
    reactor = founding.reactor_id if founding is not None else ""
    if request.mode is Mode.RETURN_PROOF:
        return await chain.read_charter(founder, request.player_id, reactor)
    right = await chain.check_signer(signer, Action.CHARTER, founder)
    reading = await chain.read_charter(founder, right.player_id, reactor)
    if right.player_id == founder or founding is None:  # without one nothing can be submitted: the request says so
        return reading
    if founding.consent is not None:
        touched = permissions_on(f"{ADDRESS_TYPE}-{founding.consent.address}")
        reading = replace(reading, depends_on=reading.depends_on | {touched})
    try:
        await _check_agreed(chain, founding, reading.work)
    except WorkPaused as error:
        error.depends_on = reading.depends_on
        raise
    return reading


async def _check_agreed(chain: ChainClient, founding: Founding, work: Work) -> None:
    assert work.charter is not None
    founder, terms, consent = work.object_id, work.charter, founding.consent
    if consent is None:
        raise WorkPaused(
            f"player {terms.solver_id} solves the charter of player {founder}, who has to consent: "
            f"{_what_to_do(chain, founding, work)}"
        )
    try:
        check_consent(consent, chain.chain_id, founder, founding, work.anchor)
        owner = (await chain.check_signer(consent.address, Action.CHARTER, founder)).player_id
    except (InvalidInput, KeyProblem) as error:
        raise WorkPaused(
            f"{error}; player {founder} has to consent anew: {_what_to_do(chain, founding, work)}"
        ) from error
    if owner != founder:
        raise WorkPaused(
            f"the consent's address {consent.address} belongs to player {owner}, not to the founder; player {founder} "
            f"has to consent: {_what_to_do(chain, founding, work)}"
        )


def _what_to_do(chain: ChainClient, founding: Founding, work: Work) -> str:
    words = ["hashfleet", "charter", "consent", "--chain-id", chain.chain_id, "--founder", work.object_id]
    words += ["--reactor", founding.reactor_id, "--endpoint", founding.endpoint]
    words += ["--substation", founding.entry_substation_id] if founding.entry_substation_id else []
    words += ["--anchor", str(work.anchor)]
    return f"run {shlex.join(words)} with the founder's key, and submit the job again with that consent"
