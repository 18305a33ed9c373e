"""The plot of docs/start-decision.md, written as SVG by hand: the same bytes from the same numbers, on any machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from html import escape

from bench.start_policies import (
    BALANCED,
    CLI,
    DESKTOP,
    ECONOMY,
    OTHERS,
    OURS,
    RACE,
    RANGES,
    RATES,
    WEB,
    Outcome,
    Policy,
)

_WIDTH, _HEIGHT = 1240, 682
_LEFT, _TOP, _PANEL_WIDTH, _PANEL_HEIGHT, _GAP_X, _GAP_Y = 84, 112, 208, 232, 20, 40
#: Points of a curve per decade of the hash rate.
_PER_DECADE = 16
_LEAST_RATE, _MOST_RATE = RATES[0], RATES[-1]
_INK, _FAINT, _GRID = "#1f2937", "#6b7280", "#e5e7eb"


@dataclass(frozen=True, slots=True)
class _Style:
    colour: str
    width: float
    dash: str = ""


_STYLES = {
    CLI.name: _Style("#b0b7c3", 1.8, "1.5 3.5"),
    DESKTOP.name: _Style("#8b94a3", 1.8, "6 3"),
    WEB.name: _Style("#5b6472", 1.8, "10 3 2 3"),
    ECONOMY.name: _Style("#0f9d76", 2.2),
    BALANCED.name: _Style("#1d4ed8", 3.2),
    RACE.name: _Style("#dd6b10", 2.2),
}


@dataclass(frozen=True, slots=True)
class _Axis:
    """What is drawn upwards in a row of panels."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    #: (range, outcome) to the number drawn, in the units of low and high.
    of: Callable[[int, Outcome], float]


_FINISH = _Axis(
    "finished after, % of the range",
    0,
    100,
    tuple((each, f"{each} %") for each in range(0, 101, 20)),
    lambda difficulty_range, outcome: 100 * outcome.finish / difficulty_range,
)
_HASHES = _Axis(
    "hashes spent, on average",
    3,
    16,
    tuple(zip(range(4, 17, 2), ("10⁴", "10⁶", "10⁸", "10¹⁰", "10¹²", "10¹⁴", "10¹⁶"), strict=True)),
    lambda _, outcome: math.log10(outcome.hashes),
)


def plot() -> str:
    """The SVG."""
    return "\n".join([*_lines(), ""])


def _lines() -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">'
    )
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>'
    yield _text(_LEFT, 34, "When a job is finished, and what it costs", 19, _INK, weight="bold")
    yield from _legend()
    for row, axis in enumerate((_FINISH, _HASHES)):
        top = _TOP + row * (_PANEL_HEIGHT + _GAP_Y)
        middle = top + _PANEL_HEIGHT / 2
        yield _text(24, middle, axis.title, 13, _INK, anchor="middle", turn=(24, middle))
        for column, difficulty_range in enumerate(RANGES):
            left = _LEFT + column * (_PANEL_WIDTH + _GAP_X)
            yield from _panel(difficulty_range, axis, left, top, first=column == 0, bottom=row == 1)
    middle_x = _LEFT + (len(RANGES) * (_PANEL_WIDTH + _GAP_X) - _GAP_X) / 2
    yield _text(
        middle_x,
        _HEIGHT - 14,
        "hash rate of the whole fleet, 3 M to 100 G hashes per second",
        13,
        _INK,
        anchor="middle",
    )
    yield "</svg>"


def _legend() -> Iterator[str]:
    x = float(_LEFT)
    for policies, label in ((OURS, "hashfleet:"), (OTHERS, "others:")):
        yield _text(x, 66, label, 13, _FAINT)
        x += 8.0 * len(label) + 8
        for policy in policies:
            style = _STYLES[policy.name]
            yield _line(x, 62, x + 34, 62, style)
            yield _text(x + 41, 66, policy.name, 13, _INK, weight="bold" if policy is BALANCED else "normal")
            x += 41 + 7.9 * len(policy.name) + 26
        x += 10


def _panel(difficulty_range: int, axis: _Axis, left: float, top: float, first: bool, bottom: bool) -> Iterator[str]:
    def across(rate: float) -> float:
        return left + _PANEL_WIDTH * math.log(rate / _LEAST_RATE) / math.log(_MOST_RATE / _LEAST_RATE)

    def up(value: float) -> float:
        share = (value - axis.low) / (axis.high - axis.low)
        return top + _PANEL_HEIGHT * (1 - min(1.0, max(0.0, share)))

    for value, label in axis.ticks:
        yield _rule(left, up(value), left + _PANEL_WIDTH, up(value))
        if first:
            yield _text(left - 8, up(value) + 4, label, 12, _FAINT, anchor="end")
    for exponent in range(7, 12):
        x = across(10.0**exponent)
        yield _rule(x, top, x, top + _PANEL_HEIGHT)
        if bottom and exponent < 11:
            label = {7: "10 M", 8: "100 M", 9: "1 G", 10: "10 G"}[exponent]
            yield _text(x, top + _PANEL_HEIGHT + 18, label, 11, _FAINT, anchor="middle")
    if not bottom:
        yield _text(
            left + _PANEL_WIDTH / 2, top - 10, f"range {difficulty_range:,}", 14, _INK, anchor="middle", weight="bold"
        )
    yield (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{_PANEL_WIDTH}" height="{_PANEL_HEIGHT}" fill="none" '
        f'stroke="#9ca3af" stroke-width="1"/>'
    )
    for policy in (*OTHERS, RACE, ECONOMY, BALANCED):
        style = _STYLES[policy.name]
        outcomes = [(rate, axis.of(difficulty_range, _outcome(policy, difficulty_range, rate))) for rate in _rates()]
        points = " ".join(f"{across(rate):.1f},{up(value):.1f}" for rate, value in outcomes)
        dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
        yield (
            f'<polyline points="{points}" fill="none" stroke="{style.colour}" stroke-width="{style.width}" '
            f'stroke-linejoin="round" stroke-linecap="round"{dash}/>'
        )


@lru_cache(maxsize=4096)
def _outcome(policy: Policy, difficulty_range: int, rate: float) -> Outcome:
    return policy.outcome(difficulty_range, rate)


def _rates() -> list[float]:
    steps = round(_PER_DECADE * math.log10(_MOST_RATE / _LEAST_RATE))
    return [_LEAST_RATE * (_MOST_RATE / _LEAST_RATE) ** (step / steps) for step in range(steps + 1)]


def _line(x1: float, y1: float, x2: float, y2: float, style: _Style) -> str:
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{style.colour}" '
        f'stroke-width="{style.width}" stroke-linecap="round"{dash}/>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{_GRID}" stroke-width="1"/>'


def _text(
    x: float,
    y: float,
    words: str,
    size: int,
    colour: str,
    anchor: str = "start",
    weight: str = "normal",
    turn: tuple[float, float] | None = None,
) -> str:
    turned = f' transform="rotate(-90 {turn[0]:.1f} {turn[1]:.1f})"' if turn else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
        f'font-weight="{weight}"{turned}>{escape(words)}</text>'
    )
