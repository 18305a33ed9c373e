"""`python -m bench.start_decision`: make docs/start-decision.md and its plot. Computed, not measured: no dice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from textwrap import fill

import click

from bench.machine import CHECKOUT
from bench.start_plot import plot
from bench.start_policies import (
    ANCHOR,
    BALANCED,
    BLOCK_SECONDS,
    ECONOMY,
    OTHERS,
    OURS,
    RACE,
    RANGES,
    RATES,
    Outcome,
)
from coordinator.core.schedule import Pace, start_height
from coordinator.core.survival import hashing_blocks
from hashfleet.action import Action, Work
from hashfleet.job_request import JobRequest

DOCUMENT = CHECKOUT / "docs" / "start-decision.md"
PLOT = CHECKOUT / "docs" / "start-decision.svg"
#: Other jobs that could use the fleet, for the table of what they change.
RIVALS = (0, 1, 3, 10, 100, 1000)
_RIVALS_RANGE, _RIVALS_RATE = 14_000, 3e9

_HEAD = """\
# When hashing starts

Made by `python -m bench.start_decision` (or `make start-decision`); do not edit. Everything here is computed from
`coordinator/core/survival.py` and `coordinator/core/schedule.py`, the code that decides in the fleet.

## The problem

The chain asks for D leading hex zeros, which takes 16^D hashes on average, and D falls with the age of the clock: along
a logarithm, in steps, from 64 to 1. So every job can be had for 16 hashes by who waits long enough, and costs
sixteen times as much for each step that somebody wants to be ahead. The question is where to begin.

## One formula

Most clients throw a hash away that is not good enough for the next block. We keep the best one: the chain accepts it as
soon as it asks no more zeros than that hash has. So a job is finished as soon as its best hash reaches what is asked,
and it does not matter when that hash was found. With N(t) hashes done by age t and D(t) zeros asked then,

    P(not finished at age t) = exp(-N(t) / 16^D(t))

and 0 from the block on at which the hash in hand is good enough. Within a step the curve is an exponential; at each
fall its exponent grows sixteenfold, because everything that was hashed before counts again, at the easier level.
Everything else is read off this curve:

| What a job shows | What it is |
|---|---|
| expected finish | the area under the curve |
| 50 % and 90 % quantiles | where the curve crosses 0.5 and 0.1; the block is the one that can include the proof |
| progress | 1 - the curve at the present age, with the hashes done so far: it never falls while the clock stays |
| chance of meeting a deadline | 1 - the curve at the last block that counts |
| when to start | the start for which finish and hashing together cost least |

A quantile is often the very moment of a fall, because many jobs finish exactly then. Such a job is done by its 90 %
block more often than in 90 % of cases, never less.

## The modes

* **race** starts at once (not before age 10). No hash is lost, so nothing is earlier, and nothing costs more.
* **economy** starts once 16^D hashes take at most one block, or D is 1. A hash in hand that is valid by then is waited
  for instead.
* **balanced**, the default, starts where *expected finish + kappa x expected time of the whole fleet* is least, and
  never later than economy. kappa is 1 + the number of other runnable jobs of the same or a higher class: a second of
  the fleet is worth a second of waiting, and as much again for each job that could use it. The least is found among all
  heights to come, not only where steps begin: the best start often lies shortly *before* a fall, because what is hashed
  there counts in full after it. When a hash is found that is good but not good enough yet, the same is asked again:
  hash on, or wait until it is valid. (The tables leave that out: it lowers the sum of waiting and hashing further.)

`start_difficulty` replaces the mode. A budget (`max_hashes`) holds the mode back until it suffices with a probability
of 90 %. `deadline_height` brings the start forward until the proof is in the chain by then with a probability of 90 %,
or to now if that cannot be had; the job says so.
"""

_PLOT = """\
## Beside what others do

The other clients of this chain start at a fixed difficulty, whatever their hardware: the command line client at D <= 3,
the desktop app at D <= 8, the web client at D <= 10; none of them keeps the best hash. A job is asked for when its
clock starts and has the whole fleet; blocks take 5.3 s.

![Share of the range that has passed when the job is finished, and hashes spent, by hash rate](start-decision.svg)
"""


def page() -> str:
    """The whole document."""
    parts = [_HEAD, _PLOT, *(_range_table(each) for each in RANGES), _comparison(), _kappa()]
    return "\n".join(parts)


def _range_table(difficulty_range: int) -> str:
    rows = [
        f"### Range {difficulty_range:,} ({_duration(difficulty_range)})",
        "",
        "Age in blocks at which the job is finished, on average, and the hashes it takes.",
        "",
        "| Rate | " + " | ".join(policy.name for policy in (*OTHERS, *OURS)) + " |",
        "|---" * (1 + len(OTHERS) + len(OURS)) + "|",
    ]
    for rate in RATES:
        outcomes = (policy.outcome(difficulty_range, rate) for policy in (*OTHERS, *OURS))
        rows.append(f"| {_si(rate)}H/s | " + " | ".join(f"{o.finish:,.0f}, {_si(o.hashes)}" for o in outcomes) + " |")
    return "\n".join([*rows, ""])


def _comparison() -> str:
    rows = [
        "## How much earlier, for how many hashes",
        "",
        "Balanced beside each other client: blocks and time by which it finishes earlier (with a minus: later), and",
        "how many times their hashes it spends.",
        "",
        "| Range | Rate | " + " | ".join(policy.name for policy in OTHERS) + " |",
        "|---" * (2 + len(OTHERS)) + "|",
    ]
    for difficulty_range in RANGES:
        for rate in RATES:
            ours = BALANCED.outcome(difficulty_range, rate)
            cells = (_beside(ours, policy.outcome(difficulty_range, rate)) for policy in OTHERS)
            rows.append(f"| {difficulty_range:,} | {_si(rate)}H/s | " + " | ".join(cells) + " |")
    return "\n".join([*rows, ""])


def _beside(ours: Outcome, theirs: Outcome) -> str:
    blocks = theirs.finish - ours.finish
    return f"{blocks:+,.0f} ({_duration(blocks)}), {_times(ours.hashes / theirs.hashes)}"


def _kappa() -> str:
    findings = [fill(each, 118, initial_indent="* ", subsequent_indent="  ") for each in _findings()]
    return "\n".join(
        [_KAPPA_HEAD, *_rivals_rows(), "", "What the tables show, and not always in our favour:", "", *findings, ""]
    )


_KAPPA_HEAD = f"""\
## What kappa means, and where it is wrong

kappa is a price: how many seconds of waiting one second of the whole fleet is worth. It is 1 for a fleet that has
nothing else to do, which makes balanced generous with hashes: an idle fleet is taken to cost no more than the wait. It
knows neither the price of electricity nor how much a caller wants the proof; `economy`, `race` and `start_difficulty`
are for those who do. With other jobs waiting for the same devices, it grows by itself:

Range {_RIVALS_RANGE:,} at {_RIVALS_RATE / 1e9:.0f} GH/s:

| Other jobs | kappa | Starts at age | Finished at age | Hashes | Time of the fleet |
|---|---|---|---|---|---|"""


def _rivals_rows() -> Iterator[str]:
    for rivals in RIVALS:
        made = _with_rivals(rivals, _RIVALS_RANGE, _RIVALS_RATE)
        yield (
            f"| {rivals:,} | {1 + rivals:,} | {made.start:,} | {made.finish:,.0f} | {_si(made.hashes)} | "
            f"{_hash_time(made, (_RIVALS_RANGE, _RIVALS_RATE))} |"
        )


def _findings() -> Iterator[str]:
    """What the tables show that does not speak for us, found in them and not picked by hand."""
    cases = [(r, rate) for r in RANGES for rate in RATES]
    balanced = {case: BALANCED.outcome(*case) for case in cases}
    economy = {case: ECONOMY.outcome(*case) for case in cases}
    more = {case: balanced[case].hashes / economy[case].hashes for case in cases}
    earlier = {case: 1 - balanced[case].finish / economy[case].finish for case in cases}
    dearest = max(cases, key=lambda case: more[case])
    yield (
        "Beside economy, balanced always finishes earlier and always spends more: in the median of the "
        f"{len(cases)} cases {_times(median(more.values()))} the hashes to be done {median(earlier.values()):.0%} "
        f"earlier; at most {_times(more[dearest])}, {_case(dearest)}, to be done {earlier[dearest]:.0%} earlier."
    )
    saved = {case: economy[case].finish - balanced[case].finish for case in cases}
    worth = {case: saved[case] / (balanced[case].hashes / case[1] / BLOCK_SECONDS) for case in cases}
    least = min(cases, key=lambda case: worth[case])
    yield (
        f"Beside economy, a second of the whole fleet saves {median(worth.values()):.0f} seconds of waiting in the "
        f"median. It saves least, {worth[least]:.1f} seconds, at {_case(least)}: {_duration(saved[least])} in all "
        f"({earlier[least]:.1%} earlier) for {_hash_time(balanced[least], least)} of hashing and {_times(more[least])} "
        "the hashes. Whoever pays for the power may find that dear, and should ask for economy."
    )
    thrift = {case: _with_rivals(2, *case) for case in cases}
    tipped = max(cases, key=lambda case: balanced[case].hashes / thrift[case].hashes)
    yield (
        "Where two starts cost nearly the same, kappa tips the scales between steps that differ sixteenfold. At "
        f"{_case(tipped)}, kappa = 3 would spend {_times(thrift[tipped].hashes / balanced[tipped].hashes)} the hashes "
        f"of kappa = 1 and finish {thrift[tipped].finish / balanced[tipped].finish - 1:.1%} later. At such a point the "
        "last sixteenfold is bought at the very price that kappa names: a small change of the rate changes the hashes "
        "much and the finish little."
    )
    for policy in OTHERS:
        theirs = {case: policy.outcome(*case) for case in cases}
        later = [case for case in cases if balanced[case].finish > theirs[case].finish + 0.5]
        if later:
            worst = max(later, key=lambda case: balanced[case].finish - theirs[case].finish)
            ratios = [theirs[case].hashes / balanced[case].hashes for case in later]
            yield (
                f"In {len(later)} of {len(cases)} cases balanced finishes later than {policy.name}, at most by "
                f"{balanced[worst].finish - theirs[worst].finish:,.0f} blocks ({_case(worst)}, "
                f"{balanced[worst].finish / theirs[worst].finish - 1:.1%}). There the other spends {min(ratios):.0f} "
                f"to {max(ratios):.0f} times as many hashes."
            )
    race = {case: RACE.outcome(*case).hashes / balanced[case].hashes for case in cases}
    yield (
        f"Race is the earliest of all in every case, at {_times(min(race.values()))} to {_times(max(race.values()))} "
        "the hashes of balanced."
    )


def _with_rivals(rivals: int, difficulty_range: int, rate: float) -> Outcome:
    """What is to be expected of a balanced job while that many others could use the fleet."""
    work, pace = Work(Action.REFINE, "5-1", ANCHOR, difficulty_range), Pace(rate, BLOCK_SECONDS)
    start = start_height(JobRequest(work.action, work.object_id, "1-1"), work, ANCHOR, pace, rivals=rivals) - ANCHOR
    blocks = hashing_blocks(difficulty_range, start, pace.power)
    return Outcome(start, start + blocks, blocks * pace.power)


def _hash_time(outcome: Outcome, case: tuple[int, float]) -> str:
    return _duration(outcome.hashes / case[1] / BLOCK_SECONDS)


def _case(case: tuple[int, float]) -> str:
    return f"range {case[0]:,} at {_si(case[1])}H/s"


def _times(ratio: float) -> str:
    """3.2 x, 1,500 x, 0.04 x: two figures."""
    if ratio >= 100:
        digits = 10 ** (math.floor(math.log10(ratio)) - 1)
        return f"{round(ratio / digits) * digits:,.0f} x"
    return f"{ratio:.2g} x" if ratio < 10 else f"{ratio:.0f} x"


def _si(value: float) -> str:
    """4.3 G, 100 M."""
    for power, unit in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 0.9995 * 10**power:
            scaled = value / 10**power
            return f"{scaled:.0f} {unit}" if scaled >= 9.95 else f"{scaled:.1f} {unit}"
    return f"{value:.0f} "


def _duration(blocks: float) -> str:
    seconds = abs(blocks) * BLOCK_SECONDS
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 0.995 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if what is there is not what this makes.")
def main(check: bool) -> None:
    """Make docs/start-decision.md and docs/start-decision.svg."""
    for path, text in ((DOCUMENT, page()), (PLOT, plot())):
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            raise click.ClickException(
                f"docs/{path.name} is not what the code makes; run python -m bench.start_decision"
            )


if __name__ == "__main__":
    main()
