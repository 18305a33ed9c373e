"""Which rules a version plays by."""

from __future__ import annotations

import pytest

from coordinator.chain.versions import rules_of


@pytest.mark.parametrize(
    ("version", "planet_clocks", "active_planet"),
    [
        ("v0.16.0", False, False),
        ("0.20.0", False, False),
        ("v0.20.9-4-gabcdef", False, False),
        ("v0.21.0", True, False),
        ("0.21.3-rc1", True, False),
        ("v0.22.0-dev+build", True, True),
        ("v1.0", True, True),
        (" v0.9.1\n", False, False),
    ],
)
def test_a_version_tells_whose_clocks_run_and_what_a_raid_needs(
    version: str, planet_clocks: bool, active_planet: bool
) -> None:
    rules = rules_of(version)
    assert rules is not None
    assert (rules.planet_clocks, rules.raid_stops_ore) == (planet_clocks, planet_clocks)
    assert rules.raid_needs_active_planet == active_planet


@pytest.mark.parametrize(
    "version", ["", "main", "v0", "abcdef0123", "0.x.1", "v0.0.0-20260417101112-abcdef012345", "v99999.1.1"]
)
def test_a_text_that_is_no_version_has_no_rules(version: str) -> None:
    assert rules_of(version) is None
