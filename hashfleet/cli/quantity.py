"""Hash rates, counts and times as people read them."""

from __future__ import annotations

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_SPANS = (("years", 365.25 * 86400), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0))


def show_count(value: float) -> str:
    """Three digits and a metric prefix.

    >>> show_count(31_250_000_000)
    '31.2 G'
    """
    for prefix in _PREFIXES[:-1]:
        if value < 999.5:
            return f"{value:.3g} {prefix}".rstrip() if prefix or value % 1 else f"{value:.0f}"
        value /= 1000
    return f"{value:.3g} {_PREFIXES[-1]}"


def show_rate(hashes_per_second: float) -> str:
    """
    >>> show_rate(31_250_000_000)
    '31.2 GH/s'
    """
    value, _, prefix = show_count(hashes_per_second).partition(" ")
    return f"{value} {prefix}H/s"


def show_seconds(seconds: float) -> str:
    """In the largest unit of which there are at least two.

    >>> show_seconds(0.25), show_seconds(150), show_seconds(4e9)
    ('0.25 seconds', '2.5 minutes', '127 years')
    """
    for unit, length in _SPANS:
        if seconds >= 2 * length:
            amount = seconds / length
            return f"{amount:.3g} {unit}" if amount < 1e6 else f"{amount:.2g} {unit}"
    return f"{seconds:.2g} seconds" if seconds < 10 else f"{seconds:.0f} seconds"
