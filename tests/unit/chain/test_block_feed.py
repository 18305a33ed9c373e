"""What following blocks costs."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest

from coordinator.chain.block_feed import BlockFeed
from coordinator.chain.client import Block


@pytest.mark.parametrize("heights", [(2_300_000,), (1, 2_300_000)])
async def test_blocks_that_are_passed_over_are_not_listed_one_by_one(heights: tuple[int, ...]) -> None:
    told = iter(heights)

    async def poll() -> Block:
        return Block(next(told), 1.0)

    async def upgraded(height: int) -> bool:
        return False

    feed = BlockFeed([], poll, upgraded, call_timeout=1.0, poll_seconds=0.01, silence_seconds=1.0)
    await feed.connect("devnet-1")
    async with contextlib.aclosing(feed.blocks()) as blocks:
        for height in heights[:-1]:
            assert (await anext(blocks)).height == height
        tracemalloc.start()
        try:
            block = await anext(blocks)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (block.height, block.touched) == (heights[-1], None)
    assert peak < 5_000_000
