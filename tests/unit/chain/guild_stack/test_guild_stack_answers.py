"""What is read from a guild stack's rows and texts, without a database."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.chain.client import TxAnswer
from coordinator.chain.guild_stack.agent_output import Unreadable, read_output
from coordinator.chain.guild_stack.database import parse_url
from coordinator.chain.guild_stack.indexed_height import believe
from coordinator.chain.guild_stack.notifications import read_notice
from coordinator.chain.guild_stack.outbox import OutboxRow, read_trace
from hashfleet.action import Action, Work
from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput
from hashfleet.proof import verify

HASH = "AB" * 32

# ---- what the agent printed ------------------------------------------------------------------------------------------


def test_an_admitted_transaction_is_read() -> None:
    output = json.dumps({"height": "0", "txhash": HASH, "codespace": "", "code": 0, "raw_log": "[]"})
    assert read_output(output) == TxAnswer(HASH, 0, "", "[]")


def test_a_refused_transaction_is_read_with_its_codespace_and_log() -> None:
    output = json.dumps({"txhash": HASH.lower(), "codespace": "sdk", "code": 32, "raw_log": "expected 4, got 3"})
    assert read_output(f"gas estimate: 81234\n{output}\n") == TxAnswer(HASH, 32, "sdk", "expected 4, got 3")


def test_yaml_is_read_too() -> None:
    output = (
        f'code: 0\ncodespace: ""\ndata: ""\nheight: "0"\nraw_log: \'[]\'\ntimestamp: ""\ntx: null\ntxhash: {HASH}\n'
    )
    assert read_output(output) == TxAnswer(HASH, 0, "", "[]")


@pytest.mark.parametrize("output", [None, "", " \n"])
def test_no_output_tells_nothing(output: str | None) -> None:
    assert read_output(output) is None


@pytest.mark.parametrize(
    "output",
    [
        "panic: runtime error",
        "{",
        json.dumps({"txhash": "", "code": 0}),
        json.dumps({"txhash": HASH[:-1], "code": 0}),
        json.dumps({"txhash": HASH, "code": "many"}),
        json.dumps({"txhash": HASH, "code": True}),
        json.dumps({"txhash": HASH, "code": -1}),
        json.dumps([HASH]),
        "code: 0",
    ],
)
def test_what_tells_neither_success_nor_failure_is_taken_for_neither(output: str) -> None:
    assert isinstance(read_output(output), Unreadable)


@given(st.text(max_size=300))
def test_no_output_breaks_the_reader(output: str) -> None:
    read_output(output)


# ---- heights ---------------------------------------------------------------------------------------------------------


def row(height: int = 100, age: float = 1.0, **members: object) -> dict[str, object]:
    return {"chain": "structstestnet-111", "height": height, "age": age, "time": 1000.0, **members}


def test_a_fresh_row_is_believed() -> None:
    indexed = believe([row(status="current", lag_blocks=1, tip_height=101)], None, 6.0)
    assert (indexed.chain, indexed.block.height, indexed.block.time) == ("structstestnet-111", 100, 1000.0)


@pytest.mark.parametrize("members", [{"lag_blocks": 2}, {"tip_height": 102}, {"status": "stalled"}])
def test_an_index_that_is_behind_is_not_believed(members: dict[str, object]) -> None:
    with pytest.raises(ChainUnavailable):
        believe([row(**members)], None, 6.0)


def test_a_few_measured_intervals_are_the_patience() -> None:
    assert believe([row(age=70.0)], None, 15.0).block.height == 100
    with pytest.raises(ChainUnavailable):
        believe([row(age=76.0)], None, 15.0)
    # however fast blocks seem to come, a pause of the indexer is no stand-still, and however slowly, an hour is one
    assert believe([row(age=29.0)], None, 0.1).block.height == 100
    with pytest.raises(ChainUnavailable):
        believe([row(age=3600.0)], None, 10_000.0)


def test_an_indexer_that_writes_no_chain_id_is_taken_for_the_configured_chain() -> None:
    assert believe([row(chain="testnet")], "structstestnet-111", 6.0).chain == "structstestnet-111"


@pytest.mark.parametrize(
    "members", [{"height": None}, {"height": 0}, {"height": "100"}, {"chain": None}, {"age": None}]
)
def test_a_row_that_lacks_or_garbles_a_member_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(BadChainAnswer):
        believe([{**row(), **members}], None, 6.0)


# ---- notifications ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "touched"),
    [
        ({"subject": "structs.planet.2-9", "detail": {"struct_id": "5-14", "block": 7}}, {"2-9", "5-14"}),
        ({"subject": "structs.planet.2-9.noPlayer", "detail": {"planet_id": "2-9"}}, {"2-9"}),
        ({"subject": "structs.grid.player.1-7", "object_id": "1-7", "value": 3}, {"1-7"}),
        ({"subject": "structs.planet.2-9", "detail": {"list": [{"fleet_id": "9-1"}, "9-2"]}}, {"2-9", "9-1", "9-2"}),
        ({"subject": "structs.something.new", "member": "7-3"}, {"7-3"}),
    ],
)
def test_every_id_in_a_payload_counts(payload: dict[str, object], touched: set[str]) -> None:
    notice = read_notice(json.dumps(payload))
    assert (notice.touched, notice.whole, notice.height) == (touched, True, None)


@pytest.mark.parametrize("height", [1001, "1001"])
def test_an_announced_block_is_read(height: object) -> None:
    notice = read_notice(json.dumps({"subject": "consensus", "category": "block", "height": height}))
    assert (notice.height, notice.touched, notice.whole) == (1001, frozenset(), True)


@pytest.mark.parametrize("height", [None, -1, True, 2**40, "soon", 1.5])
def test_an_announcement_without_a_height_announces_nothing(height: object) -> None:
    assert read_notice(json.dumps({"subject": "consensus", "height": height})).height is None


@pytest.mark.parametrize(
    "payload", ["", "[]", "{", '{"subject": 7}', '{"subject": "structs.planet.2-9", "stub": "true"}', "x" * 10_000]
)
def test_what_is_not_readable_and_whole_leaves_open_what_changed(payload: str) -> None:
    assert not read_notice(payload).whole


@given(st.text(max_size=200) | st.recursive(st.none() | st.text(), st.lists, max_leaves=20).map(json.dumps))
def test_no_payload_breaks_the_reader(payload: str) -> None:
    read_notice(payload)


# ---- where the database is -------------------------------------------------------------------------------------------


def test_a_server_elsewhere_has_to_prove_who_it_is() -> None:
    parameters = parse_url("postgresql://fleet@guild.example:5432/structs").parameters
    assert (parameters["sslmode"], parameters["sslrootcert"]) == ("verify-full", "system")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "%2Fvar%2Frun%2Fpostgresql", "[::1]", ""])
def test_on_this_machine_nobody_stands_in_between(host: str) -> None:
    assert "sslmode" not in parse_url(f"postgresql://fleet@{host}/structs").parameters


def test_one_host_of_several_that_is_elsewhere_decides() -> None:
    assert parse_url("postgresql://fleet@localhost,guild.example/structs").parameters["sslmode"] == "verify-full"


def test_what_was_said_about_tls_holds() -> None:
    parameters = parse_url("postgresql://fleet@guild/structs?sslmode=disable").parameters
    assert parameters["sslmode"] == "disable"
    own = parse_url("postgresql://fleet@guild/structs?sslmode=verify-full&sslrootcert=/ca.pem").parameters
    assert own["sslrootcert"] == "/ca.pem"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://fleet:hunter2@guild.example/structs",
        "postgresql://fleet@guild.example/structs?password=hunter2",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    target = parse_url(url)
    assert target.parameters["password"] == "hunter2"
    assert "hunter2" not in repr(target) + str(target) + target.shown
    assert target.shown == "guild.example/structs"


@pytest.mark.parametrize(
    "url",
    ["hunter2", "mysql://a:hunter2@b/c", "postgresql://a:hunter2@b:c:d/e?hunter2", "postgresql://a%zz:hunter2@b/c"],
)
def test_a_url_that_cannot_be_one_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_url(url)
    told: BaseException | None = raised.value
    while told is not None:
        assert "hunter2" not in str(told)
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)


# ---- rows and traces -------------------------------------------------------------------------------------------------

BUILD = Work(Action.BUILD, "5-1", 900, 700)
MINE = Work(Action.MINE, "5-14", 900, 14000)
RAID = Work(Action.RAID, "9-7", 900, 125, "2-20")


def outbox_row(status: str, output: str | None = None, args: tuple[str, ...] = ()) -> OutboxRow:
    return OutboxRow(1, status, output, None, None, args, 0.0, 0.0)


def test_a_row_proves_the_puzzle_that_its_nonce_hashes_for() -> None:
    proof = verify(BUILD.prefix, "77")
    assert outbox_row("pending", args=("5-1", proof.hash, "77")).proves(BUILD)
    assert not outbox_row("pending", args=("5-1", proof.hash, "78")).proves(BUILD)
    assert not outbox_row("pending", args=("5-1", proof.hash, "77")).proves(Work(Action.BUILD, "5-1", 901, 700))
    assert not outbox_row("pending", args=("5-1", proof.hash, "-7")).proves(BUILD)
    assert not outbox_row("pending", args=("5-1",)).proves(BUILD)


@pytest.mark.parametrize(
    ("status", "output", "may_land"),
    [
        ("pending", None, True),
        ("claimed", None, True),
        ("broadcast", json.dumps({"txhash": HASH, "code": 0}), True),
        ("broadcast", "gibberish", True),
        ("broadcast", "", False),
        ("broadcast", json.dumps({"txhash": HASH, "code": 5}), False),
        ("broadcast", json.dumps({"txhash": HASH, "code": 19, "codespace": "sdk"}), True),
        ("broadcast", json.dumps({"txhash": HASH, "code": 19, "codespace": "structs"}), False),
        ("error", "why", False),
    ],
)
def test_what_may_land_is_never_doubled(status: str, output: str | None, may_land: bool) -> None:
    assert outbox_row(status, output).may_land is may_land


@pytest.mark.parametrize(
    ("work", "told", "taken", "sure"),
    [
        (BUILD, {"status": 1, "build": 900}, None, True),
        (BUILD, {"status": 7, "build": 900}, True, True),
        (BUILD, {"status": 33, "build": 900}, False, True),
        (BUILD, {"status": 7, "destroyed": True}, False, True),
        (BUILD, {"status": 1, "build": None}, False, True),
        (MINE, {"on_struct": 900}, None, True),
        (MINE, {"on_struct": 950}, True, True),
        (MINE, {"on_struct": None}, False, True),
        (MINE, {"on_planet": 900, "on_struct": 950}, None, True),
        (MINE, {"on_planet": 950, "others": 0}, True, True),
        (MINE, {"on_planet": 950, "others": 1}, False, False),
        (RAID, {"fleet": "away", "raid_clock": 900}, None, True),
        (RAID, {"fleet": "onStation", "raid": {"fleet": "9-7", "status": "raidSuccessful"}}, True, True),
        (RAID, {"fleet": "onStation", "raid": {"fleet": "9-8", "status": "raidSuccessful"}}, False, True),
        (RAID, {"fleet": "onStation", "raid": {"fleet": "9-7", "status": "attackerRetreated"}}, False, True),
        (RAID, {"fleet": "away", "raid_clock": 0, "raid": None}, False, True),
    ],
)
def test_the_tables_are_taken_for_success_only_where_nothing_else_leaves_such_a_trace(
    work: Work, told: dict[str, object], taken: bool | None, sure: bool
) -> None:
    trace = read_trace(work, {"height": 1000, **told})
    assert (trace.taken, trace.sure) == (taken, sure)
