"""What a guild stack's database says about work, and where it is not believed."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from coordinator.chain.guild_stack.client import GRACE_BLOCKS, GuildStackClient
from coordinator.chain.guild_stack.database import Database, parse_url
from hashfleet.action import Action, Work
from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput, KeyProblem, WorkGone, WorkPaused

KEY = "structs1agentkey"


@pytest.mark.parametrize(
    ("action", "object_id", "work", "depends_on", "clock"),
    [
        (Action.BUILD, "5-1", Work(Action.BUILD, "5-1", 320, 700), {"5-1", "1-7@"}, ""),
        (Action.MINE, "5-14", Work(Action.MINE, "5-14", 800, 150), {"5-14", "1-7@", "2-9"}, "2-9/MINE"),
        (Action.REFINE, "5-15", Work(Action.REFINE, "5-15", 810, 160), {"5-15", "1-7@", "2-9", "1-7"}, "2-9/REFINE"),
        (Action.RAID, "9-7", Work(Action.RAID, "9-7", 850, 125, "2-20"), {"9-7", "1-7@", "2-20", "1-8"}, ""),
    ],
    ids=lambda value: value.value if isinstance(value, Action) else None,
)
async def test_work_is_read_with_what_it_hangs_on(
    client: GuildStackClient, action: Action, object_id: str, work: Work, depends_on: set[str], clock: str
) -> None:
    reading = await client.read_work(action, object_id)
    assert (reading.work, reading.depends_on, reading.clock) == (work, depends_on, clock)


async def test_where_planets_have_no_clock_the_struct_has_it(client: GuildStackClient, stack: Any) -> None:
    stack.do("DELETE FROM structs.planet_attribute WHERE id IN ('12-2-9', '13-2-9')")
    stack.set_struct("3-5-14", 777)
    stack.do("UPDATE structs.planet SET location_list_start = '9-3' WHERE id = '2-9'")
    stack.do("INSERT INTO structs.fleet (id, owner, status) VALUES ('9-3', '1-3', 'away')")
    reading = await client.read_work(Action.MINE, "5-14")
    # v0.20 and before: a clock of its own, and a raid does not stop it
    assert (reading.work.anchor, reading.clock) == (777, "")


@pytest.mark.parametrize(
    ("lie", "action", "object_id", "error"),
    [
        ("UPDATE structs.planet_attribute SET val = 0 WHERE id = '10-2-20'", Action.RAID, "9-7", WorkPaused),
        ("DELETE FROM structs.planet_attribute WHERE id = '10-2-20'", Action.RAID, "9-7", WorkPaused),
        ("UPDATE structs.fleet SET status = 'onStation' WHERE id = '9-7'", Action.RAID, "9-7", WorkGone),
        ("UPDATE structs.fleet SET location_list_forward = '9-1' WHERE id = '9-7'", Action.RAID, "9-7", WorkPaused),
        ("UPDATE structs.planet SET location_list_start = '9-3' WHERE id = '2-9'", Action.MINE, "5-14", WorkPaused),
        ("UPDATE structs.planet SET location_list_start = '9-3' WHERE id = '2-9'", Action.REFINE, "5-15", WorkPaused),
        ("UPDATE structs.planet SET status = 'complete' WHERE id = '2-9'", Action.MINE, "5-14", WorkGone),
        ("UPDATE structs.planet SET status = 'complete' WHERE id = '2-9'", Action.REFINE, "5-15", WorkPaused),
        ("UPDATE structs.struct_attribute SET val = 33 WHERE id = '1-5-1'", Action.BUILD, "5-1", WorkGone),
        ("UPDATE structs.struct SET is_destroyed = true WHERE id = '5-14'", Action.MINE, "5-14", WorkGone),
        ("UPDATE structs.struct_attribute SET val = 3 WHERE id = '1-5-14'", Action.MINE, "5-14", WorkPaused),
        ("UPDATE structs.grid SET val = 0 WHERE id = '0-2-9'", Action.MINE, "5-14", WorkGone),
        ("DELETE FROM structs.grid WHERE id = '0-1-7'", Action.REFINE, "5-15", WorkGone),
        ("DELETE FROM structs.struct_attribute WHERE id = '2-5-1'", Action.BUILD, "5-1", WorkGone),
        ("UPDATE structs.struct_attribute SET val = 3 WHERE id = '1-5-1'", Action.BUILD, "5-1", WorkGone),
    ],
)
async def test_the_source_tables_veto_what_the_view_lists(
    client: GuildStackClient, stack: Any, lie: str, action: Action, object_id: str, error: type[Exception]
) -> None:
    stack.do(lie)
    with pytest.raises(error) as raised:
        await client.read_work(action, object_id)
    assert object_id in raised.value.depends_on  # type: ignore[attr-defined]


async def test_a_view_that_lags_behind_its_tables_is_not_believed(client: GuildStackClient, stack: Any) -> None:
    # what the stack does since September 2026: the view reads a copy
    stack.do("ALTER VIEW view.work RENAME TO work_live")
    stack.do("CREATE TABLE view.work AS SELECT * FROM view.work_live")
    stack.set_struct("2-5-1", 321)
    with pytest.raises(ChainUnavailable, match="anchor 320"):
        await client.read_work(Action.BUILD, "5-1")
    stack.do("DELETE FROM view.work WHERE object_id = '5-1'")
    with pytest.raises(ChainUnavailable, match="does not list"):
        await client.read_work(Action.BUILD, "5-1")


async def test_columns_that_a_stack_does_not_have_yet_are_no_error(client: GuildStackClient, stack: Any) -> None:
    stack.do("ALTER TABLE structs.current_block DROP COLUMN status, DROP COLUMN lag_blocks, DROP COLUMN tip_height")
    stack.do("ALTER VIEW view.work RENAME TO work_live")
    stack.do(
        "CREATE VIEW view.work AS SELECT target_id, category, object_id, block_start, player_id, difficulty_target "
        "FROM view.work_live"
    )
    assert (await client.latest_block()).height == 1000
    assert (await client.read_work(Action.BUILD, "5-1")).work.anchor == 320


async def test_a_raid_whose_fleet_is_not_indexed_is_not_known(client: GuildStackClient, stack: Any) -> None:
    stack.do("DELETE FROM structs.fleet WHERE id = '9-7'")
    with pytest.raises(ChainUnavailable):
        await client.read_work(Action.RAID, "9-7")


async def test_an_object_that_the_index_may_not_have_yet_is_gone_only_after_some_blocks(
    client: GuildStackClient, stack: Any
) -> None:
    with pytest.raises(ChainUnavailable, match="5-999"):
        await client.read_work(Action.BUILD, "5-999")
    stack.index(1000 + GRACE_BLOCKS)
    with pytest.raises(WorkGone):
        await client.read_work(Action.BUILD, "5-999")


async def test_a_players_work_is_listed_as_it_would_be_read(client: GuildStackClient, stack: Any) -> None:
    stack.add_struct("5-2", 14, status=1, build_anchor=500)
    stack.add_struct("5-30", 14, status=1)  # its build clock is not set: the view lists it all the same
    stack.add_struct("5-31", 14, status=1, build_anchor=500, owner="1-8")
    assert await client.outstanding_work("1-7") == [
        (Action.BUILD, "5-1"),
        (Action.BUILD, "5-2"),
        (Action.MINE, "5-14"),
        (Action.REFINE, "5-15"),
        (Action.RAID, "9-7"),
    ]
    stack.set_planet("10-2-20", 0)
    assert (Action.RAID, "9-7") not in await client.outstanding_work("1-7")


async def test_a_player_that_nobody_knows_has_no_work(client: GuildStackClient, stack: Any) -> None:
    with pytest.raises(ChainUnavailable):
        await client.outstanding_work("1-999")
    stack.index(1000 + GRACE_BLOCKS)
    with pytest.raises(WorkGone):
        await client.outstanding_work("1-999")


async def test_an_id_of_another_type_is_refused_before_anything_is_asked(client: GuildStackClient) -> None:
    with pytest.raises(InvalidInput):
        await client.read_work(Action.RAID, "5-14")


# ---- heights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["syncing", "catching_up", "stalled", "replaying"])
async def test_nothing_is_read_while_the_index_is_not_current(
    client: GuildStackClient, stack: Any, status: str
) -> None:
    stack.index(1001, status=status)
    with pytest.raises(ChainUnavailable, match=status):
        await client.latest_block()
    with pytest.raises(ChainUnavailable, match=status):
        await client.read_work(Action.BUILD, "5-1")


async def test_nothing_is_read_from_an_index_that_stands_still(client: GuildStackClient, stack: Any) -> None:
    stack.index(1000, age=31, status=None)
    with pytest.raises(ChainUnavailable, match="stands still"):
        await client.read_work(Action.BUILD, "5-1")


async def test_an_index_that_is_empty_after_a_crash_tells_no_height(client: GuildStackClient, stack: Any) -> None:
    stack.do("TRUNCATE structs.current_block")
    with pytest.raises(ChainUnavailable, match="empty"):
        await client.latest_block()


async def test_the_configured_chain_is_taken_even_if_another_row_is_newer(stack: Any, stack_url: str) -> None:
    stack.index(1000, age=3)
    stack.index(77, chain="another-1")
    client = GuildStackClient(stack_url, "structstestnet-111")
    await client.connect()
    assert (await client.latest_block()).height == 1000
    await client.close()


async def test_without_a_configured_chain_the_row_written_last_is_taken(stack: Any, stack_url: str) -> None:
    stack.index(1000, age=3)
    stack.index(1005, chain="another-1")
    client = GuildStackClient(stack_url)
    await client.connect()
    assert ((await client.latest_block()).height, client.chain_id) == (1005, "another-1")
    await client.close()


async def test_without_a_configured_chain_the_row_of_the_nodes_chain_is_taken(
    stack: Any, stack_url: str, node: Any
) -> None:
    stack.index(1000, age=3)
    stack.index(5_000_000, chain="another-1")
    client = GuildStackClient(stack_url, node=node)
    await client.connect()
    assert ((await client.latest_block()).height, client.chain_id) == (1000, "structstestnet-111")
    await client.close()


async def test_an_index_of_another_chain_is_refused(stack: Any, stack_url: str) -> None:
    client = GuildStackClient(stack_url, "mainnet-1")
    with pytest.raises(BadChainAnswer, match="mainnet-1"):
        await client.connect()
    await client.close()


async def test_a_node_of_another_chain_is_refused(stack: Any, stack_url: str, node: Any) -> None:
    node.chain_id = "another-1"
    client = GuildStackClient(stack_url, "structstestnet-111", node=node)
    with pytest.raises(BadChainAnswer, match="another-1"):
        await client.connect()
    await client.close()


# ---- who may sign ----------------------------------------------------------------------------------------------------


async def test_an_address_of_the_owner_with_the_bit_may_sign(client: GuildStackClient) -> None:
    right = await client.check_signer(KEY, Action.MINE, "5-14")
    assert (right.player_id, right.owner_id) == ("1-7", "1-7")


async def test_a_delegate_needs_the_owners_grant(client: GuildStackClient, stack: Any) -> None:
    stack.add_account("structs1delegate", "1-9", 2097152)
    with pytest.raises(KeyProblem, match="PermHashMine"):
        await client.check_signer("structs1delegate", Action.MINE, "5-14")
    stack.grant("1-7", "1-9", 2097152)
    assert (await client.check_signer("structs1delegate", Action.MINE, "5-14")).player_id == "1-9"
    with pytest.raises(KeyProblem, match="PermHashBuild"):
        await client.check_signer("structs1delegate", Action.BUILD, "5-1")


async def test_an_address_that_nobody_registered_may_not_sign(client: GuildStackClient) -> None:
    with pytest.raises(KeyProblem, match="not registered"):
        await client.check_signer("structs1nobody", Action.MINE, "5-14")


async def test_what_a_database_does_not_hold_needs_a_node(client: GuildStackClient) -> None:
    with pytest.raises(ChainUnavailable, match="--chain-grpc"):
        await client.find_transaction("AB" * 32)


# ---- connections -----------------------------------------------------------------------------------------------------


async def test_a_role_with_the_documented_grants_alone_reads_all_there_is(granted_url: str) -> None:
    client = GuildStackClient(granted_url, poll_seconds=60)
    await client.connect()
    assert (await client.read_work(Action.BUILD, "5-1")).work.range == 700
    assert len(await client.outstanding_work("1-7")) == 4
    assert (await client.check_signer(KEY, Action.MINE, "5-14")).owns
    async for block in client.blocks():
        assert block.height == 1000
        break
    await client.close()


async def test_a_role_without_grants_is_told_what_it_lacks(stack: Any, granted_url: str) -> None:
    stack.do("REVOKE SELECT ON structs.current_block FROM granted_role")
    client = GuildStackClient(granted_url)
    with pytest.raises(BadChainAnswer, match="grant it what docs"):
        await client.connect()
    await client.close()


async def test_a_query_that_hangs_ends_with_its_time_limit(stack: Any, stack_url: str) -> None:
    client = GuildStackClient(stack_url, call_timeout=0.4)
    await client.connect()
    with psycopg.connect(stack_url) as blocker:
        blocker.execute("LOCK TABLE structs.struct IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(ChainUnavailable):
            await client.read_work(Action.BUILD, "5-1")
    assert (await client.read_work(Action.BUILD, "5-1")).work.anchor == 320
    await client.close()


async def test_connections_that_the_server_ended_are_renewed(client: GuildStackClient, stack: Any) -> None:
    await client.read_work(Action.BUILD, "5-1")
    stack.do(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'hashfleet' AND datname = current_database()"
    )
    with pytest.raises(ChainUnavailable):
        await client.read_work(Action.BUILD, "5-1")
    assert (await client.read_work(Action.BUILD, "5-1")).work.anchor == 320


async def test_a_server_that_cannot_be_reached_is_not_asked_again_at_once(tmp_path: Any) -> None:
    database = Database(parse_url(f"postgresql://me:hunter2@/db?host={tmp_path}"))
    for _ in range(2):
        with pytest.raises(ChainUnavailable, match="cannot be reached") as raised:
            await database.one("SELECT '{}'::jsonb", {}, "anything")
        assert "hunter2" not in str(raised.value)
    (tmp_path / "nothing").mkdir()  # the second answer came from memory: no socket was looked for in between
    assert database._not_before > 0


async def test_its_health_is_told_with_the_nodes(client: GuildStackClient, stack: Any) -> None:
    (own,) = client.endpoints()
    assert (own.state.value, own.height, own.error) == ("healthy", 1000, "")
    assert own.name.startswith("PostgreSQL ")
