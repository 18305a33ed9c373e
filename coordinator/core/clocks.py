"""Clocks that several works share: a success with one voids what was hashed for the others, so one is worked on."""

from __future__ import annotations

from coordinator.core.job import JobState
from coordinator.core.state import Clock, Entry, State


def join_clock(state: State, entry: Entry, name: str) -> None:
    """Note the clock that a reading named; empty for none."""
    if entry.clock == name:
        return
    leave_clock(state, entry)
    entry.clock = name
    if name:
        state.clocks.setdefault(name, Clock()).members[entry.job.job_id] = None


def leave_clock(state: State, entry: Entry) -> None:
    """The job has no part in its clock any more."""
    if not entry.clock:
        return
    clock = state.clocks[entry.clock]
    release_clock(state, entry)
    clock.members.pop(entry.job.job_id, None)
    if not clock.members:
        del state.clocks[entry.clock]
    entry.clock = ""


def clock_holder(state: State, entry: Entry) -> Entry | None:
    """The other job that is worked on under the clock of this one."""
    if not entry.clock:
        return None
    holder = state.clocks[entry.clock].holder
    return None if holder is None or holder == entry.job.job_id else state.entries[holder]


def gives_way(holder: Entry, entry: Entry) -> bool:
    """Whether the holder of a clock lets another job go first: only for a higher class, and never on its way in."""
    return holder.job.state is not JobState.SUBMITTING and entry.job.request.priority < holder.job.request.priority


def take_clock(state: State, entry: Entry) -> None:
    """The job is worked on under its clock from now on; whichever was before is decided anew."""
    if not entry.clock:
        return
    clock = state.clocks[entry.clock]
    if clock.holder is not None and clock.holder != entry.job.job_id:
        state.reviews[clock.holder] = None
    clock.holder = entry.job.job_id


def release_clock(state: State, entry: Entry) -> None:
    """The job is not worked on for now: the others are decided anew, the best first."""
    if not entry.clock:
        return
    clock = state.clocks[entry.clock]
    if clock.holder != entry.job.job_id:
        return
    clock.holder = None
    others = [state.entries[job_id] for job_id in clock.members if job_id != entry.job.job_id]
    others.sort(key=lambda other: (other.job.request.priority, _hardness(other), other.job.created_at))
    for other in others:
        state.reviews[other.job.job_id] = None


def _hardness(entry: Entry) -> float:
    """Works of one clock have one age, so the smaller range is the easier one."""
    return entry.job.work.range if entry.job.work is not None else float("inf")
