"""Following blocks: pushed, polled, through losses; never backwards, never made up, never ended."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import pytest

from coordinator.chain.client import Block
from hashfleet.action import Action
from hashfleet.errors import ChainUnavailable


async def upcoming(blocks: Any) -> int:
    async with asyncio.timeout(20):
        block: Block = await anext(blocks)
    return block.height


async def test_without_an_rpc_blocks_are_polled(chain: Any) -> None:
    client = await chain.connected()
    async with contextlib.aclosing(client.blocks()) as blocks:
        assert await upcoming(blocks) == 1310000
        chain.node.height = 1310003
        assert await upcoming(blocks) == 1310003


async def test_an_announced_block_arrives_with_its_time_and_without_a_poll(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        polls = chain.node.calls.count("GetLatestBlock")
        await chain.rpc.announce(1310001)
        assert await anext(blocks) == Block(1310001, 1_776_420_672 + 1310001, frozenset())
        assert chain.node.calls.count("GetLatestBlock") == polls


async def test_an_older_or_repeated_block_is_passed_over(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        assert await upcoming(blocks) == 1310000
        for height in (1309990, 1310000, 1310005):
            await chain.rpc.announce(height)
        assert await upcoming(blocks) == 1310005
        for height in (1310005, 1310004, 1310006):
            await chain.rpc.announce(height)
        assert await upcoming(blocks) == 1310006


@pytest.mark.parametrize("value", [{}, {"block": {}}, {"block": {"header": {"height": "99999999"}}}, "text", None])
async def test_an_event_without_a_readable_header_leads_to_a_query_not_to_a_guess(chain: Any, value: object) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        chain.node.height = 1310001
        await chain.rpc.send(value)
        assert await upcoming(blocks) == 1310001


async def test_a_block_of_another_chain_is_never_passed_on(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        chain.node.height = 1310001
        header = {"chain_id": "devnet-2", "height": "1999999", "time": "2026-04-17T10:11:12Z"}
        await chain.rpc.send({"block": {"header": header}})
        assert await upcoming(blocks) == 1310001


async def test_a_long_jump_that_no_node_confirms_is_not_passed_on(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        header = {"chain_id": chain.node.chain_id, "height": "3310000", "time": "2026-04-17T10:11:12Z"}
        await chain.rpc.send({"block": {"header": header}})
        await chain.rpc.announce(1310001)
        assert await upcoming(blocks) == 1310001
        assert (await client.read_work(Action.BUILD, "5-28")).work.anchor == 1283950


async def test_a_long_jump_that_a_node_confirms_is_passed_on(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.announce(3310000)
        assert await upcoming(blocks) == 3310000


async def test_a_long_jump_that_only_the_rpcs_status_tells_is_not_passed_on(chain: Any) -> None:
    chain.rpc.refuse = True
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        chain.node.faults["GetLatestBlock"] = (grpc.StatusCode.UNAVAILABLE, "restarting")
        chain.node.height = 3310000
        asked = asyncio.Semaphore(0)

        async def count() -> None:
            asked.release()

        chain.node.before["GetLatestBlock"] = count
        waiting = asyncio.ensure_future(upcoming(blocks))
        async with asyncio.timeout(20):
            for _ in range(3):
                await asked.acquire()
        assert not waiting.done()
        chain.node.height = 1310001
        assert await waiting == 1310001


async def test_a_lost_subscription_is_made_again_and_the_gap_is_read(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.drop()
        chain.node.height = 1310007
        assert await upcoming(blocks) == 1310007
        waiting = asyncio.ensure_future(upcoming(blocks))
        await chain.rpc.wait_for_subscriptions(2)
        await chain.rpc.announce(1310008)
        assert await waiting == 1310008


async def test_an_rpc_that_stays_behind_is_left_for_the_next_one(make_chain: Any) -> None:
    ours, behind = await make_chain(), await make_chain()
    client = await ours.connected_to_several([behind.rpc_url, ours.rpc_url], silence_seconds=0.2)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        following = asyncio.create_task(follow(blocks, 1310600))
        await behind.rpc.wait_for_subscriptions(1)
        async with asyncio.timeout(20):
            while not ours.rpc.connections:
                ours.node.height += 1
                await behind.rpc.announce(ours.node.height - 100)
                await asyncio.sleep(0.02)
        await ours.rpc.announce(1310600)
        assert await following is None


async def test_an_rpc_that_falls_behind_does_not_hold_the_newest_block_back(make_chain: Any) -> None:
    ours, behind = await make_chain(), await make_chain()
    client = await ours.connected_to_several([behind.rpc_url], silence_seconds=0.2)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        following = asyncio.create_task(follow(blocks, 1310600))
        await behind.rpc.wait_for_subscriptions(1)
        ours.node.height = 1310600
        for height in range(1310001, 1310500):  # each is news, and always in time
            if following.done():
                break
            await behind.rpc.announce(height)
            await asyncio.sleep(0.02)
        assert following.done()
        await following


async def follow(blocks: Any, height: int) -> None:
    """Read blocks until this one is told."""
    while await upcoming(blocks) < height:
        pass


async def test_a_subscription_that_the_node_cancels_is_made_again_without_waiting_for_the_silence(chain: Any) -> None:
    client = await chain.connected(rpc=True, silence_seconds=600)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.wait_for_subscriptions(1)
        waiting = asyncio.ensure_future(upcoming(blocks))
        await chain.rpc.cancel()
        await chain.rpc.wait_for_subscriptions(2)
        await chain.rpc.announce(1310001)
        assert await waiting == 1310001


async def test_while_the_rpc_is_down_blocks_are_polled_and_the_subscription_comes_back(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.stop()
        chain.node.height = 1310001
        assert await upcoming(blocks) == 1310001
        await chain.rpc.start()
        waiting = asyncio.ensure_future(upcoming(blocks))
        await chain.rpc.wait_for_subscriptions(2)
        await chain.rpc.announce(1310002)
        assert await waiting == 1310002


async def test_a_refused_subscription_falls_back_to_polling(chain: Any) -> None:
    chain.rpc.refuse = True
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        chain.node.height = 1310001
        assert await upcoming(blocks) == 1310001


async def test_a_silent_subscription_that_missed_blocks_is_noticed_and_renewed(chain: Any) -> None:
    client = await chain.connected(rpc=True, silence_seconds=0.05)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        chain.node.height = 1310001  # committed, but no event is sent
        assert await upcoming(blocks) == 1310001
        waiting = asyncio.ensure_future(upcoming(blocks))
        await chain.rpc.wait_for_subscriptions(2)
        await chain.rpc.announce(1310002)
        assert await waiting == 1310002


async def test_an_outage_of_everything_ends_nothing_and_is_logged_once(
    chain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await chain.connected()
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        failed = asyncio.Semaphore(0)

        async def count() -> None:
            failed.release()

        chain.node.before["GetLatestBlock"] = count
        chain.node.faults["GetLatestBlock"] = (grpc.StatusCode.UNAVAILABLE, "restarting")
        waiting = asyncio.ensure_future(upcoming(blocks))
        for _ in range(5):
            await failed.acquire()
        chain.node.height = 1310001
        del chain.node.faults["GetLatestBlock"]
        assert await waiting == 1310001
    said = [record.getMessage() for record in caplog.records if "does not answer" in record.getMessage()]
    assert len(said) == 1


async def test_if_grpc_fails_the_rpc_tells_the_height(chain: Any) -> None:
    chain.rpc.refuse = True
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        chain.node.faults["GetLatestBlock"] = (grpc.StatusCode.UNAVAILABLE, "restarting")
        chain.node.height = 1310001
        assert await anext(blocks) == Block(1310001, 1_776_420_672 + 1310001)


async def test_a_node_that_falls_back_in_height_never_takes_the_blocks_back(chain: Any) -> None:
    client = await chain.connected()
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        polled = asyncio.Semaphore(0)

        async def count() -> None:
            polled.release()

        chain.node.before["GetLatestBlock"] = count
        chain.node.height = 1309000
        waiting = asyncio.ensure_future(upcoming(blocks))
        for _ in range(3):
            await polled.acquire()
        assert not waiting.done()
        chain.node.height = 1310001
        assert await waiting == 1310001


@pytest.mark.parametrize("rpc", [False, True])
async def test_closing_the_client_ends_the_blocks(chain: Any, rpc: bool) -> None:
    client = await chain.connected(rpc=rpc)
    blocks = client.blocks()
    await upcoming(blocks)
    waiting = asyncio.ensure_future(anext(blocks, None))
    await asyncio.sleep(0)
    await client.close()
    async with asyncio.timeout(20):
        assert await waiting is None


async def test_leaving_the_blocks_closes_the_subscription(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.wait_for_subscriptions(1)
        (connection,) = chain.rpc.connections
    async with asyncio.timeout(20):
        await connection.wait_closed()


# What changed


async def touched(blocks: Any) -> frozenset[str] | None:
    async with asyncio.timeout(20):
        block: Block = await anext(blocks)
    return block.touched


async def test_the_first_block_may_have_changed_anything(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        assert await touched(blocks) is None
    assert chain.rpc.results_asked == []


async def test_an_announced_block_tells_what_it_changed_without_a_query(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.announce(1310001, ("5-14", "5-28"))
        await chain.rpc.announce(1310002)
        assert await touched(blocks) == {"5-14", "5-28"}
        assert await touched(blocks) == frozenset()
    assert chain.rpc.results_asked == []


async def test_results_that_an_event_leaves_out_are_asked_for_once(chain: Any) -> None:
    chain.rpc.results = {1310001: ("5-14",)}
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.announce(1310001, None)
        assert await touched(blocks) == {"5-14"}
    assert chain.rpc.results_asked == [1310001]


async def test_a_gap_is_filled_with_what_the_missed_blocks_changed(chain: Any) -> None:
    chain.rpc.results = {height: (f"5-{height}",) for height in range(1310001, 1310013)}
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.announce(1310013, ("5-14",))
        assert await touched(blocks) == {"5-14", *(f"5-{height}" for height in range(1310001, 1310013))}
    assert sorted(chain.rpc.results_asked) == list(range(1310001, 1310013))


async def test_after_a_long_gap_anything_may_have_changed_and_nothing_is_asked(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.announce(1310060, ("5-14",))
        assert await touched(blocks) is None
    assert chain.rpc.results_asked == []


async def test_a_block_whose_results_the_node_lacks_may_have_changed_anything(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.announce(1310002, ("5-14",))
        assert await touched(blocks) is None
        await chain.rpc.announce(1310003, ("5-14",))
        assert await touched(blocks) == {"5-14"}


async def test_a_polled_block_tells_what_it_changed_if_the_rpc_knows(chain: Any) -> None:
    chain.rpc.refuse = True
    chain.rpc.results = {1310001: ("5-14",), 1310002: ("5-28",)}
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        chain.node.height = 1310002
        assert await touched(blocks) == {"5-14", "5-28"}


async def test_without_an_rpc_a_polled_block_may_have_changed_anything(chain: Any) -> None:
    client = await chain.connected()
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        chain.node.height = 1310001
        assert await touched(blocks) is None


async def test_an_rpc_that_does_not_answer_holds_up_one_block_only(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.stop()
        chain.node.height = 1310001
        assert await touched(blocks) is None
        await chain.rpc.start()
        chain.rpc.refuse = True
        chain.node.height = 1310002
        assert await touched(blocks) is None
    assert chain.rpc.results_asked == []


async def test_the_results_of_an_rpc_that_came_back_as_another_chains_are_not_taken_for_ours(chain: Any) -> None:
    await chain.rpc.stop()
    client = await chain.connected(rpc=True)  # it tells its chain to nobody
    chain.rpc.network = "devnet-2"
    chain.rpc.refuse = True
    chain.rpc.results = {1310001: ("5-999",)}
    await chain.rpc.start()
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        chain.node.height = 1310001
        assert await touched(blocks) is None


async def test_the_results_of_an_rpc_that_changes_its_chain_while_it_is_used_are_not_taken_for_ours(chain: Any) -> None:
    chain.rpc.refuse = True
    chain.rpc.results = {1310001: ("5-14",), 1310002: ("5-999",)}
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        chain.node.height = 1310001
        assert await touched(blocks) == {"5-14"}
        chain.rpc.network = "devnet-2"
        chain.node.height = 1310002
        assert await touched(blocks) is None


async def test_nothing_is_read_from_before_the_newest_block(chain: Any) -> None:
    client = await chain.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await upcoming(blocks)
        await chain.rpc.announce(1310001)
        await upcoming(blocks)
        chain.node.height = 1310000
        with pytest.raises(ChainUnavailable, match="old heights"):
            await client.read_work(Action.BUILD, "5-28")
        chain.node.height = 1310001
        assert (await client.read_work(Action.BUILD, "5-28")).work.anchor == 1283950
