"""Which of a player's outstanding works become jobs now. Pure: what is known goes in, what to ask for comes out.

A work is asked for unless

* it has an unfinished job, whoever asked for that,
* the rule wants proofs returned, and the proof of this very puzzle was returned before,
* the rule does not name its action, or the signing key may not do it,
* a job of it failed or was cancelled lately: it is held back, twice as long with each failure in a row,
* the player has as many unfinished jobs as the rule allows.

A completed job holds nothing back: a rig goes on mining, and its next ore has another anchor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from coordinator.core.job import Job, JobState
from hashfleet.action import Action
from hashfleet.autopilot_rule import AutopilotRule
from hashfleet.job_request import JobRequest

#: Seconds for which a work is held back after its job failed: doubled with each failure in a row up to the last.
FIRST_HOLD_SECONDS, LAST_HOLD_SECONDS = 60.0, 3600.0

#: An action on an object; two unfinished jobs never share one.
Claim = tuple[Action, str]

#: Who goes first where a rule limits the number of jobs: a raid's window closes soonest, and ore that is not refined
#: yet can be stolen.
_ORDER = {Action.RAID: 0, Action.BUILD: 1, Action.REFINE: 2, Action.MINE: 3}


@dataclass(frozen=True, slots=True)
class Failure:
    """What held a work back last: a job of it that failed, or that somebody cancelled."""

    #: Why, in one sentence.
    reason: str
    #: Failures in a row, without a completed job in between; a cancelled job is none.
    count: int
    #: When the work may be asked for again, Unix seconds.
    until: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What one look at a player leads to."""

    #: To be submitted, in this order.
    requests: tuple[JobRequest, ...]
    #: Works that are not asked for because of what became of their last job.
    held: tuple[Claim, ...] = ()
    #: Works that wait until the player has fewer unfinished jobs.
    queued: int = 0


def failure_after(job: Job, before: Failure | None) -> Failure | None:
    """What a job that ended leads to for its work, given what held the work back before."""
    ended = job.completed_at if job.completed_at is not None else job.updated_at
    count = before.count if before else 0
    match job.state:
        case JobState.FAILED:
            seconds = min(FIRST_HOLD_SECONDS * 2.0 ** min(count, 16), LAST_HOLD_SECONDS)
            return Failure(job.error or "it failed without a reason", count + 1, ended + seconds)
        case JobState.CANCELLED:
            # Somebody does not want it; asked for again at once it would be a nuisance.
            return Failure("its last job was cancelled on request", count, ended + LAST_HOLD_SECONDS)
        case _:
            return None


def choose(
    rule: AutopilotRule,
    outstanding: Iterable[Claim],
    active: Collection[Claim],
    failures: Mapping[Claim, Failure],
    refused: Collection[Action],
    now: float,
    proven: Collection[Claim] = (),
) -> Choice:
    """What to ask for now.

    `outstanding` is what the chain says the player could complete; `active` are the claims of his unfinished jobs,
    `failures` what became of earlier ones, `refused` the actions that the signing key may not do for him, `proven`
    the works whose proof was returned and waits to be submitted by somebody else.
    """
    if not rule.enabled:
        return Choice(())
    wanted: list[Claim] = []
    held: list[Claim] = []
    for claim in dict.fromkeys(outstanding):
        if claim[0] not in rule.actions or claim[0] in refused or claim in active or claim in proven:
            continue
        failure = failures.get(claim)
        if failure is not None and now < failure.until:
            held.append(claim)
        else:
            wanted.append(claim)
    wanted.sort(key=lambda claim: (_ORDER[claim[0]], _number(claim[1])))
    room = len(wanted) if rule.max_jobs is None else max(0, rule.max_jobs - len(active))
    requests = tuple(rule.request(action, object_id) for action, object_id in wanted[:room])
    return Choice(requests, tuple(held), len(wanted) - len(requests))


def actions_to_ask_for(
    rule: AutopilotRule, outstanding: Iterable[Claim], active: Collection[Claim]
) -> dict[Action, str]:
    """An object for each action that the rule would ask for: by it the signing key's right is checked."""
    found: dict[Action, str] = {}
    for action, object_id in outstanding:
        if action in rule.actions and (action, object_id) not in active:
            found.setdefault(action, object_id)
    return found


def _number(object_id: str) -> tuple[int, str]:
    return int(object_id.rpartition("-")[2]), object_id
