"""New blocks of a guild stack, announced or not, and what they touched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio

from coordinator.chain.client import Block
from coordinator.chain.guild_stack.client import GuildStackClient


class Feed:
    """Blocks of one client, taken one by one."""

    def __init__(self, client: GuildStackClient) -> None:
        self._blocks = client.blocks()

    async def next(self) -> Block:
        return await asyncio.wait_for(anext(self._blocks), 20)

    async def close(self) -> None:
        await self._blocks.aclose()


@pytest_asyncio.fixture
async def feed(client: GuildStackClient) -> AsyncIterator[Feed]:
    made = Feed(client)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def patient_feed(stack: Any, stack_url: str) -> AsyncIterator[Feed]:
    """Polls so rarely that a test sees announcements only."""
    client = GuildStackClient(stack_url, poll_seconds=60)
    await client.connect()
    made = Feed(client)
    yield made
    await made.close()
    await client.close()


async def test_an_announced_block_is_told_without_waiting_for_a_poll(patient_feed: Feed, stack: Any) -> None:
    assert (await patient_feed.next()).height == 1000
    stack.index(1001)
    assert (await patient_feed.next()).height == 1001


async def test_a_block_that_nobody_announces_is_polled(feed: Feed, stack: Any) -> None:
    stack.do("DROP TRIGGER current_block_notify ON structs.current_block")
    assert (await feed.next()).height == 1000
    stack.index(1003)
    block = await feed.next()
    assert (block.height, block.touched) == (1003, None)


async def test_a_block_names_what_activity_and_grid_say_changed(patient_feed: Feed, stack: Any) -> None:
    await patient_feed.next()
    stack.activity("2-9", "struct_block_ore_mine_start", {"planet_id": "2-9", "block": 1001})
    stack.index(1001)
    assert (await patient_feed.next()).touched == {"2-9"}
    stack.activity("2-20", "fleet_arrive", {"fleet_id": "9-4", "fleet_list": ["9-4", "9-7"]}, seq=2)
    stack.set_ore("1-7", 9)
    stack.index(1002)
    assert (await patient_feed.next()).touched == {"2-20", "9-4", "9-7", "1-7"}
    stack.index(1003)
    assert (await patient_feed.next()).touched == frozenset()


async def test_subjects_of_newer_stacks_are_read_by_their_prefix(patient_feed: Feed, stack: Any) -> None:
    await patient_feed.next()
    payload = {"subject": "structs.planet.2-9.1-7", "category": "struct_status", "detail": {"struct_id": "5-14"}}
    stack.do("SELECT pg_notify('grass', %(p)s)", p=json.dumps(payload))
    stack.index(1001)
    assert (await patient_feed.next()).touched == {"2-9", "1-7", "5-14"}


async def assert_unknown_then_known(feed: Feed, stack: Any, disturb: Callable[[], None]) -> None:
    """A block with this disturbance may have touched anything; the one after it is told again."""
    await feed.next()
    stack.activity("2-9", "struct_status", {"struct_id": "5-14"})
    stack.index(1001)
    assert (await feed.next()).touched == {"2-9", "5-14"}
    disturb()
    stack.index(1002)
    assert (await feed.next()).touched is None
    stack.index(1003)
    assert (await feed.next()).touched == frozenset()


async def test_a_payload_that_was_too_large_leaves_open_what_changed(patient_feed: Feed, stack: Any) -> None:
    stub = json.dumps({"subject": "structs.planet.2-9", "stub": "true"})
    await assert_unknown_then_known(patient_feed, stack, lambda: stack.do("SELECT pg_notify('grass', %(p)s)", p=stub))


async def test_a_payload_that_cannot_be_read_leaves_open_what_changed(patient_feed: Feed, stack: Any) -> None:
    await assert_unknown_then_known(patient_feed, stack, lambda: stack.do("SELECT pg_notify('grass', '{nonsense')"))


async def test_a_change_of_permissions_leaves_open_what_changed(patient_feed: Feed, stack: Any) -> None:
    await assert_unknown_then_known(patient_feed, stack, lambda: stack.grant("1-7", "1-9", 1))


async def test_a_stack_that_does_not_know_all_activity_leaves_open_what_changed(stack: Any, stack_url: str) -> None:
    stack.do("ALTER TYPE structs.grass_category RENAME VALUE 'block_raid_start' TO 'something_else'")
    client = GuildStackClient(stack_url, poll_seconds=60)
    await client.connect()
    feed = Feed(client)
    await feed.next()
    stack.activity("2-9", "struct_status", {"struct_id": "5-14"})
    stack.index(1001)
    assert (await feed.next()).touched is None
    await feed.close()
    await client.close()


async def test_a_channel_without_any_activity_yet_leaves_open_what_changed(patient_feed: Feed, stack: Any) -> None:
    await patient_feed.next()
    stack.index(1001)
    assert (await patient_feed.next()).touched is None


async def test_a_lost_connection_is_renewed_and_leaves_open_what_changed(feed: Feed, stack: Any) -> None:
    await feed.next()
    stack.activity("2-9", "struct_status", {"struct_id": "5-14"})
    stack.index(1001)
    await feed.next()
    stack.do(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'hashfleet' AND datname = current_database()"
    )
    stack.index(1002)
    block = await feed.next()
    assert (block.height, block.touched) == (1002, None)


async def test_blocks_wait_while_the_index_lags_and_never_go_back(feed: Feed, stack: Any) -> None:
    assert (await feed.next()).height == 1000
    stack.index(1001, status="syncing")
    waiting = asyncio.ensure_future(feed.next())
    for _ in range(3):  # each of these turns a poll could have told 1001
        await asyncio.sleep(0.1)
    assert not waiting.done()
    stack.index(1002)
    assert (await waiting).height == 1002


async def test_closing_ends_the_feed(client: GuildStackClient, feed: Feed) -> None:
    await feed.next()
    waiting = asyncio.ensure_future(feed.next())
    await asyncio.sleep(0)
    await client.close()
    try:
        await waiting
    except StopAsyncIteration:
        return
    raise AssertionError("the feed went on")
