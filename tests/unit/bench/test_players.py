"""Fifty players with three ripe objects each: all proofs land, in about as few blocks as the limits allow."""

from __future__ import annotations

import pytest

from bench.players import Case, least_blocks, measure_case


@pytest.mark.parametrize(
    ("case", "least"),
    [
        (Case("one key, batching", 1, 8), 4),
        (Case("eight keys, batching", 8, 8), 1),
        (Case("eight keys for everybody", 8, 1, shared=True), 4),
    ],
    ids=str,
)
async def test_the_proofs_of_many_players_are_included_in_about_as_few_blocks_as_can_be(case: Case, least: int) -> None:
    measured = await measure_case(case, players=50)
    assert (measured.proofs, measured.included, measured.stale) == (150, 150, 0)
    assert (measured.rejected, measured.failed) == (0, 0)
    assert measured.least_blocks == least
    # The first transactions leave before the last proofs are found, and are not full.
    assert measured.blocks <= least + 1


async def test_one_key_hands_in_five_proofs_a_block_without_batching() -> None:
    measured = await measure_case(Case("one key", 1, 1), players=5)
    assert (measured.included, measured.transactions, measured.stale) == (15, 15, 0)
    assert measured.blocks == measured.least_blocks == 3


@pytest.mark.parametrize(
    ("keys", "batch", "blocks"),
    [(1, 1, 600), (1, 2, 300), (1, 8, 75), (1, 40, 75), (8, 1, 75), (8, 8, 10), (3000, 1, 1)],
)
def test_the_least_number_of_blocks_is_what_the_limits_leave(keys: int, batch: int, blocks: int) -> None:
    """5 transactions of an address, 40 messages of a player."""
    assert least_blocks(3000, keys, batch) == blocks
