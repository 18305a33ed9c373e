"""Waiting for an idle machine, and not for ever."""

from __future__ import annotations

from itertools import count, repeat

from bench.quiet import wait_until_quiet


def test_it_waits_while_others_compute() -> None:
    busy = iter([1.9, 0.4, 0.05])
    assert wait_until_quiet(10.0, lambda seconds: next(busy), lambda: 0.0)
    assert list(busy) == []


def test_its_patience_has_an_end() -> None:
    busy, clock = repeat(2.0), count()
    assert not wait_until_quiet(10.0, lambda seconds: next(busy), lambda: float(next(clock)))
    assert next(clock) == 11


def test_without_patience_it_does_not_even_look() -> None:
    assert wait_until_quiet(0.0, lambda seconds: 1 / 0)
