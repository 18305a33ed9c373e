"""Which works are read when: by the chain's events where they are known, else in turn; and never too many at once."""

from __future__ import annotations

from coordinator.core.commands import Command, ReadWork
from coordinator.core.events import (
    BlockCommitted,
    JobsRestored,
    JobSubmitted,
    Ticked,
    Trouble,
    WorkNotRead,
    WorkRead,
)
from coordinator.core.job import JobState
from coordinator.core.reading import BLIND_BLOCKS, READS_IN_FLIGHT, SAFETY_BLOCKS, SAFETY_READS_PER_BLOCK
from hashfleet.action import Action, Work
from hashfleet.job_request import JobRequest, StartMode

from .conftest import Play, grants

#: Asks for 2 zeros from height 6,660 on; a slow device waits long for it.
SLOW = Work(Action.BUILD, "5-28", anchor=1000, range=20_000)


def read_ids(commands: list[Command]) -> list[str]:
    return [command.job_id for command in commands if isinstance(command, ReadWork)]


def block(play: Play, height: int, *touched: str) -> list[Command]:
    play.height, play.now = height, play.now + 5.0
    return play.tell(BlockCommitted(play.now, height, play.now, frozenset(touched)))


def waiting(play: Play, work: Work = SLOW) -> None:
    play.block(1019)
    block(play, 1020)
    play.join()
    play.submit(work)
    depends = frozenset({work.object_id, "1-11", "2-9"})
    play.tell(WorkRead(play.now, "pow_1", work, depends))
    assert play.job().state is JobState.WAITING


def test_a_block_that_touches_what_a_job_hangs_on_has_it_read_again(play: Play) -> None:
    waiting(play)
    assert read_ids(block(play, 1021, "2-9")) == ["pow_1"]


def test_a_block_that_touches_nothing_of_a_job_reads_nothing(play: Play) -> None:
    waiting(play)
    assert read_ids(block(play, 1021, "2-10", "5-29")) == []


def test_a_job_hangs_on_its_own_object_whatever_the_reading_says(play: Play) -> None:
    waiting(play)
    play.tell(WorkRead(play.now, "pow_1", SLOW))
    assert read_ids(block(play, 1021, SLOW.object_id)) == ["pow_1"]


def test_a_job_that_runs_is_not_read_with_each_block_while_events_are_known(play: Play, work: Work) -> None:
    play.block(1174)
    block(play, 1175)
    play.join()
    play.submit(work, start_mode=StartMode.RACE)
    assert grants(play.read(work))
    assert read_ids(block(play, 1176)) == []


def test_a_job_that_runs_is_read_with_each_block_while_events_are_not_known(play: Play, work: Work) -> None:
    play.block(1175)
    play.join()
    play.submit(work, start_mode=StartMode.RACE)
    play.read(work)
    assert read_ids(play.block(1176)) == ["pow_1"]


def test_a_block_that_may_have_changed_anything_makes_the_waiting_be_read_in_turn(play: Play) -> None:
    waiting(play)
    assert read_ids(play.block(1021)) == []
    assert read_ids(play.block(1020 + BLIND_BLOCKS)) == ["pow_1"]


def test_a_job_that_ripens_is_not_read_again_if_events_kept_its_reading_fresh(play: Play) -> None:
    waiting(play, Work(Action.BUILD, "5-28", anchor=1000, range=200))
    start = play.job().start_height
    assert start is not None
    for height in range(1021, start):
        block(play, height)
    commands = block(play, start)
    assert play.job().state is JobState.RUNNING
    assert grants(commands)


def test_a_job_that_ripens_after_a_gap_in_the_events_is_read_first(play: Play) -> None:
    waiting(play)
    start = play.job().start_height
    assert start is not None
    play.block(1021)
    commands = block(play, start)
    assert read_ids(commands) == ["pow_1"]
    assert not grants(commands)


def test_every_job_is_read_again_some_time_even_if_no_event_names_it(play: Play) -> None:
    waiting(play)
    assert read_ids(block(play, 1020 + SAFETY_BLOCKS)) == ["pow_1"]


def test_a_touch_during_a_reading_leads_to_another_one(play: Play) -> None:
    """The reading may be older than the touch."""
    waiting(play)
    assert read_ids(block(play, 1021, "2-9")) == ["pow_1"]
    assert read_ids(block(play, 1022, "2-9")) == []
    assert read_ids(play.read(SLOW)) == ["pow_1"]


def test_a_paused_job_is_read_at_once_when_what_it_hangs_on_is_touched(play: Play) -> None:
    waiting(play)
    for _ in range(8):
        play.tell(WorkNotRead(play.now, "pow_1", Trouble.PAUSED, "5-28 is offline"))
    assert read_ids(block(play, 1021, "1-11")) == ["pow_1"]


def test_a_job_that_was_never_read_hears_of_what_its_refusal_named(play: Play) -> None:
    play.block(1019)
    play.submit(SLOW)
    play.tell(WorkNotRead(play.now, "pow_1", Trouble.PAUSED, "1-11 is halted", frozenset({"1-11"})))
    assert read_ids(block(play, 1021, "1-11")) == ["pow_1"]


def test_a_paused_job_that_nothing_touches_is_read_after_a_growing_pause(play: Play) -> None:
    waiting(play)
    pauses = []
    for _ in range(4):
        play.tell(WorkNotRead(play.now, "pow_1", Trouble.PAUSED, "5-28 is offline"))
        since = play.now
        while not read_ids(play.tell(Ticked(play.now))):
            play.now += 1.0
        pauses.append(play.now - since)
    assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_readings_under_way_are_bounded(play: Play) -> None:
    play.block(1019)
    for number in range(READS_IN_FLIGHT + 10):
        request = JobRequest(Action.BUILD, f"5-{number}", "1-11")
        play.tell(JobSubmitted(play.now, f"pow_{number}", request))
    assert len(read_ids(play.commands)) == READS_IN_FLIGHT
    work = Work(Action.BUILD, "5-0", 1000, 20_000)
    assert read_ids(play.read(work, "pow_0")) == [f"pow_{READS_IN_FLIGHT}"]


def test_what_somebody_waits_for_is_read_before_what_is_read_to_be_safe(play: Play) -> None:
    test_readings_under_way_are_bounded(play)
    for number in range(READS_IN_FLIGHT + 10):
        play.read(Work(Action.BUILD, f"5-{number}", 1000, 20_000), f"pow_{number}")
    block(play, 1020 + SAFETY_BLOCKS)
    play.tell(JobSubmitted(play.now, "pow_new", JobRequest(Action.BUILD, "5-999", "1-11")))
    assert read_ids(play.read(Work(Action.BUILD, "5-0", 1000, 20_000), "pow_0")) == ["pow_new"]


def test_safety_readings_are_spread_over_blocks(play: Play) -> None:
    count = SAFETY_READS_PER_BLOCK + 50
    play.block(1019)
    for number in range(count):
        play.machine.handle(JobSubmitted(play.now, f"pow_{number}", JobRequest(Action.BUILD, f"5-{number}", "1-11")))
        work = Work(Action.BUILD, f"5-{number}", 1000, 20_000)
        play.machine.handle(WorkRead(play.now, f"pow_{number}", work))
    play.now += 5
    height = 1020 + SAFETY_BLOCKS
    asked = read_ids(play.machine.handle(BlockCommitted(play.now, height, play.now, frozenset())).commands)
    total = len(asked)
    while asked:
        job_id = asked.pop()
        work = Work(Action.BUILD, f"5-{job_id[4:]}", 1000, 20_000)
        more = read_ids(play.machine.handle(WorkRead(play.now, job_id, work)).commands)
        total += len(more)
        asked += more
    assert total == SAFETY_READS_PER_BLOCK


def test_after_a_restart_jobs_that_ran_are_read_first(play: Play, work: Work) -> None:
    play.block(1175)
    play.submit(SLOW, "pow_slow")
    play.read(SLOW, "pow_slow")
    play.submit(Work(Action.BUILD, "5-29", 1000, 200), "pow_fast", start_mode=StartMode.RACE)
    play.read(Work(Action.BUILD, "5-29", 1000, 200), "pow_fast")
    again = Play()
    again.tell(JobsRestored(again.now, tuple(play.stored.values())))
    assert read_ids(again.block(1176)) == ["pow_fast", "pow_slow"]
