"""`python -m bench.document`: make docs/benchmarks.md of bench/results/*.json, and of nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from bench.contender import BASES
from bench.machine import CHECKOUT
from bench.quiet import IDLE_CORES
from bench.report import (
    CoreReport,
    Figure,
    FleetReport,
    JobsReport,
    KernelsReport,
    Made,
    PlayersReport,
    Report,
    RipeJobs,
    Times,
    Touched,
    read,
)
from hashfleet.difficulty import expected_hashes

RESULTS = Path(__file__).resolve().parent / "results"
DOCUMENT = CHECKOUT / "docs" / "benchmarks.md"

_HEAD = """\
# Benchmarks

Made by `python -m bench.document` from `bench/results/*.json`; do not edit. `make bench` measures this machine, adds
its results there and makes this page anew. `hashfleet bench kernels`, `fleet`, `jobs`, `core` and `players` measure
without recording.

Within a run everything is measured in turns, so that whatever else the machine does hits all alike; before each
measurement `make bench` waits a few seconds for the machine to be idle, and measures again what others disturbed. Rates
are medians of the rounds; ratios are medians of the ratios within each round.
"""
_KERNELS = """\
## Engines

Hashes a second of each engine, and of what one would use without it, in the same run. Shape T and S are the two layouts
of a nonce that `hashfleet/message.py` draws. The limit is what the hardware could do at most with the operations that a
hash of this shape takes in our code; how it was computed stands below the table.
"""
_FLEET = """\
## The fleet around an engine

A devnet, a coordinator and a worker as real processes on one machine, one long job. *Booked* is what the coordinator
counted, *alone* the same kind of engine without a fleet, measured in turns. On a machine without a GPU the processes of
the fleet share the cores with the hashing.
"""
_JOBS = """\
## Small jobs

Many jobs of difficulty 1 to 5: time until the coordinator has checked a proof of each. Devnet, coordinator, worker and
the client that asks share the machine, so what each takes of it is told beside. The transactions follow behind that, at
the chain's pace.
"""
_CORE = """\
## The coordinator with very many jobs and workers

Each figure beside its bar. The simulated workers and the coordinator's real service with a real database share one
process; they hold leases and do not hash. Solving ripe jobs and waiting idly are measured with real processes.
"""
_PLAYERS = """\
## Many players at once

Three objects of each player, ripe at the same block, whose proofs a hash-only key of somebody else hands in, as an
operator works for many. The devnet has the limits of a real chain, and makes a block whenever the coordinator has
nothing left to do, so that blocks are counted and not seconds. The least is what the limits leave: 5 free transactions
of an address in a node's mempool for a block, 40 messages of a player in a block. What the coordinator took over a
block is told with the devnet's share in it, because both are one process.
"""
_COLUMNS = {"hashlib": "hashlib", "node": "Node", "hashcat-cpu": "hashcat, CPU", "hashcat-gpu": "hashcat, GPU"}


def document(reports: Sequence[Report]) -> str:
    """The whole page."""
    kernels = [_kernels(report) for report in reports if isinstance(report, KernelsReport)]
    fleets = [_fleet(report) for report in reports if isinstance(report, FleetReport)]
    jobs = [_jobs(report) for report in reports if isinstance(report, JobsReport)]
    cores = [_core(report) for report in reports if isinstance(report, CoreReport)]
    players = [_players(report) for report in reports if isinstance(report, PlayersReport)]
    sections = ((_KERNELS, kernels), (_FLEET, fleets), (_JOBS, jobs), (_CORE, cores), (_PLAYERS, players))
    return "\n".join([_HEAD, *(part for head, parts in sections if parts for part in (head, *parts))])


def read_all(folder: Path) -> list[Report]:
    """Every result of a folder, by name. Raises InvalidInput for a file that is none."""
    return [read(path) for path in sorted(folder.glob("*.json"))]


def mega(rate: float) -> str:
    """In millions, three digits.

    >>> mega(1_593_210), mega(238_400_000), mega(33_100_000_000)
    ('1.59', '238', '33,100')
    """
    value = rate / 1e6
    if value >= 1000:
        value = float(f"{value:.3g}")
        return f"{value:,.0f}"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def times(ratio: float) -> str:
    """
    >>> times(0.812), times(3.14), times(14.97), times(149.7)
    ('0.81', '3.14', '15.0', '150')
    """
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


def _kernels(report: KernelsReport) -> str:
    bases = [base for base in BASES if any(base in figure.ratios for figure in report.figures)]
    rows = [
        (
            figure.what,
            figure.hardware,
            mega(figure.rate),
            *(f"{times(figure.ratios[base])} x" if base in figure.ratios else "" for base in bases),
            mega(figure.limit.rate) if figure.limit and figure.limit.rate else "",
            f"{figure.rate / figure.limit.rate:.0%}" if figure.limit and figure.limit.rate else "",
        )
        for figure in report.figures
    ]
    heads = ("what", "on", "MH/s", *(f"to {_COLUMNS[base]}" for base in bases), "limit, MH/s", "of it")
    return "\n".join(
        [
            _title(report.made),
            "",
            *_table(heads, rows, left=2),
            "",
            f"{len(report.figures[0].rounds)} rounds of {report.seconds:g} s; hashcat takes its own time. "
            f"{_disturbances(report.figures)}"
            if report.figures
            else "Nothing measured.",
            "",
            *_limits(report.figures),
            *(f"- Not measured: {missing.what}: {missing.reason}" for missing in report.not_measured),
            *(f"- {version}" for version in _versions(report.figures)),
            "",
        ]
    )


def _disturbances(figures: Sequence[Figure]) -> str:
    """In how many measurements others used enough of the machine to matter."""
    others = [cores for figure in figures for cores in figure.others]
    disturbed = sum(cores >= IDLE_CORES for cores in others)
    return f"Others used {IDLE_CORES:g} cores or more during {disturbed} of {len(others)} measurements."


def _limits(figures: Iterable[Figure]) -> list[str]:
    """How each limit was computed, said once."""
    lines: dict[str, list[str]] = {}
    for figure in figures:
        if figure.limit:
            lines.setdefault(figure.limit.how, []).append(figure.id)
    return [f"- Limit of {', '.join(f'`{each}`' for each in ids)}: {how}." for how, ids in lines.items()]


def _versions(figures: Iterable[Figure]) -> list[str]:
    return list(dict.fromkeys(f"`{figure.id.partition('/')[0]}`: {figure.version}" for figure in figures))


def _fleet(report: FleetReport) -> str:
    rounds = "rounds" if len(report.booked) > 1 else "round"
    rows = [
        ("booked by the coordinator, MH/s", ", ".join(map(mega, report.booked))),
        ("alone, MH/s", ", ".join(map(mega, report.raw))),
        (f"booked over alone, median of {len(report.booked)} {rounds}", f"{report.share:.1%}"),
        ("from the cancel call to the idle device", _milliseconds(report.cancel)),
        ("from the end of a lease to the next", _milliseconds(report.between_leases)),
    ]
    return "\n".join(
        [_title(report.made), "", f"{report.device} ({report.driver})", "", *_table(("", ""), rows, 1), ""]
    )


def _jobs(report: JobsReport) -> str:
    rows = [
        ("jobs", f"{report.jobs:,}"),
        ("stored a second", f"{report.submitted_per_second:,.0f}"),
        ("solved and checked a second", f"{report.solved_per_second:,.1f}"),
        ("seconds until all were solved", f"{report.solving_seconds:.1f}"),
        (f"transactions included by then, blocks of {report.block_seconds:g} s", f"{report.included:,}"),
        *([("CPU time a job", cpu_per_job(report))] if report.cpu_seconds else []),
        *([("hashes a job asks for on average", f"{_mean_hashes(report):,.0f}")] if report.cpu_seconds else []),
    ]
    if report.ripe is not None:
        rows += [
            ("waiting until one block, then solved and checked a second", f"{report.ripe.solved_per_second:,.1f}"),
            ("seconds from that block until all were solved", f"{report.ripe.solving_seconds:.2f}"),
            ("CPU time a job from that block on", cpu_per_job(report.ripe)),
        ]
    return "\n".join([_title(report.made), "", report.device, "", *_table(("", ""), rows, 1), ""])


def cpu_per_job(measured: JobsReport | RipeJobs) -> str:
    """Of all processes, and of each."""
    each = {name: 1000 * seconds / measured.jobs for name, seconds in measured.cpu_seconds.items()}
    parts = ", ".join(f"{name} {milliseconds:.2f}" for name, milliseconds in each.items())
    return f"{sum(each.values()):.2f} ms ({parts})"


def _mean_hashes(report: JobsReport) -> float:
    return sum(map(expected_hashes, report.difficulties)) / len(report.difficulties)


_TOUCHED: dict[Touched, str] = {
    "nothing": "that touched nothing",
    "a handful": "that touched eight of them",
    "unknown": "of which nothing is known",
    "nothing, after the fleet changed": "that touched nothing, after the fleet's rate changed much",
}


def core_rows(report: CoreReport) -> list[tuple[str, str, str]]:
    """What was measured, the figure, and the bar."""
    idle = report.idle
    return [
        (
            f"memory of {idle.jobs:,} waiting jobs (resident, above the {idle.empty_bytes / 1e6:.0f} MB without any)",
            f"{idle.bytes_above_empty / 1e6:.0f} MB",
            "< 400 MB",
        ),
        (
            f"of one core while they wait ({idle.seconds:.0f} s, {idle.blocks} blocks)",
            f"{idle.share_of_a_core:.1%}",
            "< 5 %",
        ),
        *(
            (
                f"a new height with {report.height_jobs:,} waiting jobs, {_TOUCHED[each.touched]}",
                f"{_milliseconds(each.handled)}, worst {1000 * max(each.handled.seconds):.3g} ms",
                "< 100 ms",
            )
            for each in report.heights
        ),
        *(
            (
                f"{each.jobs:,} jobs of difficulty {', '.join(map(str, each.difficulties))} ripe at one block, "
                f"all solved and handed to submission",
                f"{each.solving_seconds:.2f} s ({each.solved_per_second:,.0f} a second; CPU {cpu_per_job(each)})",
                "< 5 s",
            )
            for each in report.ripe
        ),
        (
            f"grant of a lease with {report.workers:,} simulated workers",
            _milliseconds(report.grant),
            "99th percentile < 5 ms",
        ),
        (
            f"first valid hit to the order to stop for each of {report.workers:,} simulated devices",
            _milliseconds(report.stop),
            "99th percentile < 50 ms",
        ),
        (
            f"the same over gRPC, to the last of {report.wire_workers} workers",
            _milliseconds(report.wire_stop),
            "99th percentile < 50 ms",
        ),
    ]


def _core(report: CoreReport) -> str:
    table = _table(("", "measured", "bar"), core_rows(report), left=3)
    return "\n".join([_title(report.made), "", report.device, "", *table, ""])


#: Heads of `player_rows`; the first two columns hold words.
PLAYER_HEADS = ("signed with", "a transaction holds", "proofs", "stale", "transactions", "blocks", "least", "s a block")


def player_rows(report: PlayersReport) -> list[tuple[str, ...]]:
    """A row for each way to sign."""
    return [
        (
            ("1 key" if figure.keys == 1 else f"{figure.keys} keys") + (", each for all" if figure.shared else ""),
            "1 proof" if figure.batch == 1 else f"up to {figure.batch} proofs",
            f"{figure.included} of {figure.proofs}",
            str(figure.stale),
            str(figure.transactions),
            str(figure.blocks),
            str(figure.least_blocks),
            f"{statistics.median(figure.block_seconds):.2g}",
        )
        for figure in report.figures
    ]


def _players(report: PlayersReport) -> str:
    count = max(figure.players for figure in report.figures)
    about = f"{count} players; the devnet behaves like {report.version}. Seconds are the median's."
    return "\n".join([_title(report.made), "", about, "", *_table(PLAYER_HEADS, player_rows(report), left=2), ""])


def _milliseconds(measured: Times) -> str:
    return (
        f"median {1000 * measured.median:.3g} ms, 99th percentile {1000 * measured.p99:.3g} ms "
        f"({len(measured.seconds)} measured)"
    )


def _title(made: Made) -> str:
    machine = made.machine
    gpus = "".join(f", {gpu}" for gpu in machine.gpus)
    plural = "s" if machine.cores > 1 else ""
    return (
        f"### {machine.cpu}, {machine.cores} core{plural}{gpus}\n\n"
        f"{made.date[:10]}, hashfleet {made.hashfleet}{f' at {made.commit}' if made.commit else ''}; "
        f"{machine.platform}, Python {machine.python}; load of the minute before: {made.load:.1f}."
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> list[str]:
    """Markdown; the first `left` columns hold words, the others numbers."""
    rules = ["---"] * left + ["---:"] * (len(heads) - left)
    return ["| " + " | ".join(cells) + " |" for cells in (heads, rules, *rows)]


@click.command()
@click.option("--check", is_flag=True, help="Only tell whether the page is what the results make; exit with 1 if not.")
def main(check: bool) -> None:
    """Make docs/benchmarks.md of bench/results."""
    text = document(read_all(RESULTS))
    if not check:
        DOCUMENT.write_text(text, encoding="utf-8")
    elif not DOCUMENT.exists() or DOCUMENT.read_text(encoding="utf-8") != text:
        raise click.ClickException("docs/benchmarks.md is not what bench/results makes; run python -m bench.document")


if __name__ == "__main__":
    main()
