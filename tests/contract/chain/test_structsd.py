"""The production client against a scripted node, by every way: readings, permissions, accounts, transactions."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.chain.client import Account, Block, TxAnswer
from coordinator.chain.structsd import StructsdClient
from hashfleet.action import Action, Work
from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput, KeyProblem, WorkGone, WorkPaused
from hashfleet.rpc.cosmos.base.abci.v1beta1 import abci_pb2
from hashfleet.rpc.structs.structs import types_pb2

ADDRESS = "structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"
TX = b"signed bytes"
TX_HASH = hashlib.sha256(TX).hexdigest().upper()


# Connecting


async def test_connecting_takes_the_chain_id_from_the_node(chain: Any) -> None:
    client = await chain.connected(chain_id=None)
    assert client.chain_id == "devnet-1"


async def test_a_node_of_another_chain_is_refused_and_both_ids_are_named(chain: Any) -> None:
    # A second node that is away might be of the right chain, so that is worth trying again.
    error = ChainUnavailable if chain.way == "failover" else BadChainAnswer
    with pytest.raises(error, match=r"'devnet-1'.*'structstestnet-111'"):
        await chain.client(chain_id="structstestnet-111").connect()


@pytest.mark.parametrize("height", [1310001, 500])
async def test_no_work_is_read_by_the_rules_of_another_chain(chain: Any, height: int) -> None:
    client = await chain.connected()
    async with contextlib.aclosing(client.blocks()) as blocks:
        await anext(blocks)
    chain.node.chain_id, chain.node.height = "devnet-2", height
    with pytest.raises((BadChainAnswer, ChainUnavailable), match=r"'devnet-2'.*'devnet-1'"):
        await client.read_work(Action.RAID, "9-3")


async def test_an_rpc_of_another_chain_is_refused_and_both_ids_are_named(chain: Any) -> None:
    chain.rpc.network = "devnet-2"
    with pytest.raises(BadChainAnswer, match=r"'devnet-2'.*'devnet-1'"):
        await chain.client(rpc=True).connect()


async def test_an_rpc_that_does_not_answer_is_no_reason_to_give_up(chain: Any) -> None:
    await chain.rpc.stop()
    client = await chain.connected(rpc=True)
    assert (await client.latest_block()).height == 1310000


async def test_nothing_is_read_from_a_node_that_is_catching_up(chain: Any) -> None:
    chain.node.syncing = True
    client = await chain.connected()
    for call in (
        client.read_work(Action.BUILD, "5-28"),
        client.read_charter("1-7", "1-7"),
        client.outstanding_work("1-7"),
        client.check_signer(ADDRESS, Action.BUILD, "5-28"),
        client.account(ADDRESS),
        client.find_transaction(TX_HASH),
    ):
        with pytest.raises(ChainUnavailable, match="is catching up with the chain"):
            await call
    chain.node.syncing = False
    assert (await client.read_work(Action.BUILD, "5-28")).work.anchor == 1283950
    asked = chain.node.calls.count("GetSyncing")
    await client.account(ADDRESS)
    assert chain.node.calls.count("GetSyncing") == asked


async def test_a_node_that_does_not_tell_whether_it_is_catching_up_is_read(chain: Any) -> None:
    chain.node.faults["GetSyncing"] = (grpc.StatusCode.UNIMPLEMENTED, "unknown method")
    client = await chain.connected()
    assert (await client.read_work(Action.BUILD, "5-28")).work.anchor == 1283950


async def test_a_node_that_is_not_there_is_unavailable_and_can_be_connected_later(chain: Any) -> None:
    await chain.stop_grpc()
    client = chain.client()
    with pytest.raises(ChainUnavailable, match=r"127\.0\.0\.1"):
        await client.connect()
    await chain.start_grpc()
    while True:  # gRPC tries the address again by itself, within its backoff of 0.2 s
        try:
            await client.connect()
            break
        except ChainUnavailable:
            await asyncio.sleep(0.05)
    assert client.chain_id == "devnet-1"


async def test_a_call_before_connecting_or_after_closing_is_unavailable(chain: Any) -> None:
    client = chain.client()
    with pytest.raises(ChainUnavailable, match="connect first"):
        await client.latest_block()
    with pytest.raises(ChainUnavailable, match="connect first"):
        _ = client.chain_id
    await client.connect()
    await client.close()
    with pytest.raises(ChainUnavailable, match="connect first"):
        await client.latest_block()
    with pytest.raises(ChainUnavailable, match="closed"):
        await client.connect()


async def test_a_node_that_hangs_is_unavailable_after_the_time_limit(chain: Any) -> None:
    client = await chain.connected(call_timeout=1.0)
    chain.node.before["Struct"] = asyncio.Event().wait
    with pytest.raises(ChainUnavailable, match="DEADLINE_EXCEEDED"):
        await client.read_work(Action.BUILD, "5-28")


async def test_a_call_that_is_under_way_when_the_client_closes_is_unavailable_not_cancelled(chain: Any) -> None:
    client = await chain.connected()
    asked = asyncio.Event()

    async def hang() -> None:
        asked.set()
        await asyncio.Event().wait()

    chain.node.before["Struct"] = hang
    reading = asyncio.ensure_future(client.read_work(Action.BUILD, "5-28"))
    await asked.wait()
    await client.close()
    with pytest.raises(ChainUnavailable, match="closed"):
        await reading


async def test_a_caller_that_is_cancelled_stays_cancelled(chain: Any) -> None:
    client = await chain.connected()
    asked = asyncio.Event()

    async def hang() -> None:
        asked.set()
        await asyncio.Event().wait()

    chain.node.before["Struct"] = hang
    reading = asyncio.ensure_future(client.read_work(Action.BUILD, "5-28"))
    await asked.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


@pytest.mark.parametrize("value", [0, -1, 601, float("nan"), float("inf")])
def test_a_time_limit_out_of_bounds_is_refused(value: float) -> None:
    with pytest.raises(InvalidInput, match="call_timeout"):
        StructsdClient("127.0.0.1:9090", None, None, call_timeout=value)


async def test_the_latest_block_has_the_height_and_time_of_its_header(chain: Any) -> None:
    assert await (await chain.connected()).latest_block() == Block(1310000, 1_776_420_672 + 1310000)


async def test_a_block_of_another_chain_is_refused(chain: Any) -> None:
    client = await chain.connected()
    chain.node.chain_id = "devnet-2"
    with pytest.raises(ChainUnavailable if chain.way == "failover" else BadChainAnswer, match="'devnet-2'"):
        await client.latest_block()


@pytest.mark.parametrize("height", [0, -5, 2**31])
async def test_a_height_that_cannot_be_is_refused(chain: Any, height: int) -> None:
    client = await chain.connected()
    chain.node.height = height
    with pytest.raises(BadChainAnswer, match="height"):
        await client.latest_block()


# TLS


@pytest.fixture(scope="module")
def certificate() -> tuple[bytes, bytes]:
    """Private key and self-signed certificate of "localhost", PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, made.public_bytes(pem)


@pytest.mark.parametrize("chain", ["grpc"], indirect=True)
async def test_an_https_address_is_reached_over_tls_by_its_certificate(
    chain: Any, certificate: tuple[bytes, bytes]
) -> None:
    await chain.stop_grpc()
    chain.grpc_port = 0
    await chain.start_grpc(grpc.ssl_server_credentials([certificate]))
    client = StructsdClient(f"https://localhost:{chain.grpc_port}", None, "devnet-1", root_certificates=certificate[1])
    await client.connect()
    assert (await client.latest_block()).height == 1310000
    await client.close()


@pytest.mark.parametrize("chain", ["grpc"], indirect=True)
async def test_a_certificate_that_nobody_vouches_for_is_refused(chain: Any, certificate: tuple[bytes, bytes]) -> None:
    await chain.stop_grpc()
    chain.grpc_port = 0
    await chain.start_grpc(grpc.ssl_server_credentials([certificate]))
    client = StructsdClient(f"https://localhost:{chain.grpc_port}", None, "devnet-1")
    with pytest.raises(ChainUnavailable):
        await client.connect()
    await client.close()


# Work


async def test_all_four_kinds_of_work_are_read(chain: Any) -> None:
    client = await chain.connected()
    assert (await client.read_work(Action.BUILD, "5-28")).work == Work(Action.BUILD, "5-28", 1283950, 700)
    assert (await client.read_work(Action.MINE, "5-14")).work == Work(Action.MINE, "5-14", 1290000, 14000)
    assert (await client.read_work(Action.REFINE, "5-14")).work == Work(Action.REFINE, "5-14", 1295000, 28000)
    assert (await client.read_work(Action.RAID, "9-3")).work == Work(Action.RAID, "9-3", 1309000, 75, "2-9")


async def test_work_of_a_kind_that_the_object_does_not_have_is_refused_before_any_query(chain: Any) -> None:
    client = await chain.connected()
    chain.node.calls.clear()
    with pytest.raises(InvalidInput):
        await client.read_work(Action.RAID, "5-14")
    assert chain.node.calls == []


@pytest.mark.parametrize(
    ("action", "object_id"), [(Action.BUILD, "5-99"), (Action.MINE, "5-99"), (Action.RAID, "9-99")]
)
async def test_an_object_that_the_chain_does_not_know_is_gone(chain: Any, action: Action, object_id: str) -> None:
    with pytest.raises(WorkGone, match=f"{object_id} does not exist"):
        await (await chain.connected()).read_work(action, object_id)


@pytest.mark.parametrize("detail", ["codespace structs code 1050: object not found", "Object not found: struct 5-99"])
async def test_an_object_is_gone_when_the_handler_gives_its_error_no_grpc_code(chain: Any, detail: str) -> None:
    chain.node.faults["Struct"] = (grpc.StatusCode.UNKNOWN, detail)
    with pytest.raises(WorkGone):
        await (await chain.connected()).read_work(Action.BUILD, "5-99")


async def test_an_unknown_object_is_not_gone_while_the_node_is_catching_up(chain: Any) -> None:
    chain.node.syncing = True
    with pytest.raises(ChainUnavailable, match="catching up"):
        await (await chain.connected()).read_work(Action.BUILD, "5-99")


async def test_an_object_is_gone_also_on_a_node_that_does_not_tell_its_progress(chain: Any) -> None:
    chain.node.faults["GetSyncing"] = (grpc.StatusCode.UNIMPLEMENTED, "")
    with pytest.raises(WorkGone):
        await (await chain.connected()).read_work(Action.BUILD, "5-99")


async def test_a_planet_that_should_exist_and_does_not_is_a_bad_answer(chain: Any) -> None:
    chain.node.planet.id = "2-10"
    with pytest.raises(BadChainAnswer, match="planet 2-9"):
        await (await chain.connected()).read_work(Action.MINE, "5-14")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, ChainUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ChainUnavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ChainUnavailable),
        (grpc.StatusCode.INTERNAL, ChainUnavailable),
        (grpc.StatusCode.UNKNOWN, ChainUnavailable),
        (grpc.StatusCode.UNIMPLEMENTED, BadChainAnswer),
        (grpc.StatusCode.INVALID_ARGUMENT, BadChainAnswer),
    ],
)
async def test_each_grpc_status_becomes_our_error_and_is_named_in_it(
    chain: Any, code: grpc.StatusCode, error: type[Exception]
) -> None:
    client = await chain.connected()
    chain.node.faults["Struct"] = (code, "why")
    with pytest.raises(error, match=f"{code.name}: why"):
        await client.read_work(Action.BUILD, "5-28")


async def test_refining_reads_the_ore_of_the_owner_not_of_the_planet(chain: Any) -> None:
    client = await chain.connected()
    chain.node.planet_ore = 0
    assert (await client.read_work(Action.REFINE, "5-14")).work.range == 28000
    chain.node.players["1-7"] = 0
    with pytest.raises(WorkGone, match="player 1-7 has no ore"):
        await client.read_work(Action.REFINE, "5-14")


async def test_mining_reads_the_ore_of_the_planet(chain: Any) -> None:
    chain.node.planet_ore = 0
    with pytest.raises(WorkGone, match="planet 2-9 has no ore"):
        await (await chain.connected()).read_work(Action.MINE, "5-14")


async def test_a_moved_shield_is_the_range_of_the_next_reading(chain: Any) -> None:
    client = await chain.connected()
    chain.node.shield = 87
    assert (await client.read_work(Action.RAID, "9-3")).work.range == 87


async def test_a_reading_that_a_block_interrupts_is_taken_again(chain: Any) -> None:
    client = await chain.connected()
    moved = False

    async def commit_a_block() -> None:
        nonlocal moved
        if not moved:
            moved = True
            chain.node.height += 1
            # The fleet went to another planet with this block; the planet is read after it.
            chain.node.fleets["9-3"].status = types_pb2.onStation

    chain.node.before["Planet"] = commit_a_block
    with pytest.raises(WorkGone, match="on station"):
        await client.read_work(Action.RAID, "9-3")


async def test_a_node_whose_answers_never_agree_on_a_height_is_unavailable(chain: Any) -> None:
    client = await chain.connected()

    async def commit_a_block() -> None:
        chain.node.height += 1

    chain.node.before["Planet"] = commit_a_block
    with pytest.raises(ChainUnavailable, match="changing or old heights"):
        await client.read_work(Action.RAID, "9-3")


# Planet clocks (v0.21 on)


@pytest.fixture
def peaceful_v21(chain: Any) -> Any:
    """A node of v0.21 whose planet nobody raids; its struct-held ore clocks are cleared."""
    chain.node.version = "v0.21.0"
    chain.node.planet.locationListStart = chain.node.planet.locationListLast = ""
    chain.node.structs["5-14"].structAttributes.blockStartOreMine = 0
    chain.node.structs["5-14"].structAttributes.blockStartOreRefine = 0
    return chain


@pytest.mark.parametrize(
    ("mine", "refine"),
    [("blockStartOreMine", "blockStartOreRefine"), ("planetBlockStartOreMine", "planetBlockStartOreRefine")],
)
async def test_either_spelling_of_a_planet_clock_is_found_out(peaceful_v21: Any, mine: str, refine: str) -> None:
    peaceful_v21.node.clocks = {mine: 1300100, refine: 1300200}
    client = await peaceful_v21.connected()
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1300100
    assert (await client.read_work(Action.REFINE, "5-14")).work.anchor == 1300200


async def test_a_clock_that_only_ever_reads_the_shield_is_a_bad_answer_and_no_anchor(peaceful_v21: Any) -> None:
    peaceful_v21.node.clocks = {}
    with pytest.raises(BadChainAnswer, match="cannot be told from its shield 75"):
        await (await peaceful_v21.connected()).read_work(Action.MINE, "5-14")


async def test_a_shield_that_moves_while_clocks_are_read_is_never_taken_for_a_clock(peaceful_v21: Any) -> None:
    client = await peaceful_v21.connected()
    peaceful_v21.node.clocks = {}

    async def raise_the_shield() -> None:
        peaceful_v21.node.shield = 100

    peaceful_v21.node.before["PlanetAttribute"] = raise_the_shield
    with pytest.raises(ChainUnavailable, match="shield of planet 2-9 changed"):
        await client.read_work(Action.MINE, "5-14")


async def test_a_spelling_once_found_is_used_even_if_the_clock_equals_the_shield(peaceful_v21: Any) -> None:
    peaceful_v21.node.clocks = {"blockStartOreMine": 1300100}
    client = await peaceful_v21.connected()
    await client.read_work(Action.MINE, "5-14")
    peaceful_v21.node.shield = peaceful_v21.node.clocks["blockStartOreMine"] = 200
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 200


async def test_a_planet_clock_at_0_pauses(peaceful_v21: Any) -> None:
    peaceful_v21.node.clocks = {"blockStartOreMine": 0}
    with pytest.raises(WorkPaused, match="not running"):
        await (await peaceful_v21.connected()).read_work(Action.MINE, "5-14")


async def test_a_build_without_a_readable_version_is_judged_by_what_it_serves(peaceful_v21: Any) -> None:
    peaceful_v21.node.version = "main-abcdef"
    peaceful_v21.node.clocks = {"blockStartOreMine": 1300100}
    assert (await (await peaceful_v21.connected()).read_work(Action.MINE, "5-14")).work.anchor == 1300100
    peaceful_v21.node.faults["GuildCharter"] = (grpc.StatusCode.UNIMPLEMENTED, "unknown method")
    with pytest.raises(WorkPaused, match="not running"):
        await (await peaceful_v21.connected()).read_work(Action.MINE, "5-14")


async def test_an_upgrade_of_the_node_is_noticed_after_an_outage(peaceful_v21: Any) -> None:
    node = peaceful_v21.node
    node.version, node.clocks = "v0.20.0", {"blockStartOreMine": 1300100}
    node.structs["5-14"].structAttributes.blockStartOreMine = 1290000
    client = await peaceful_v21.connected()
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1290000
    node.faults["Struct"] = (grpc.StatusCode.UNAVAILABLE, "upgrading")
    with pytest.raises(ChainUnavailable):
        await client.read_work(Action.MINE, "5-14")
    del node.faults["Struct"]
    node.version = "v0.21.0"
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1300100


async def test_struct_types_and_version_are_asked_once_for_many_readings(chain: Any) -> None:
    client = await chain.connected()
    chain.node.calls.clear()
    for _ in range(5):
        await client.read_work(Action.MINE, "5-14")
    assert chain.node.calls.count("StructType") == 1
    assert chain.node.calls.count("GetNodeInfo") == 1
    assert chain.node.calls.count("Struct") == 5


async def test_a_reading_names_the_objects_that_the_work_hangs_on(chain: Any) -> None:
    client = await chain.connected()
    assert (await client.read_work(Action.BUILD, "5-28")).depends_on == {"5-28", "1-7@"}
    assert (await client.read_work(Action.MINE, "5-14")).depends_on == {"5-14", "1-7@", "2-9"}
    assert (await client.read_work(Action.REFINE, "5-14")).depends_on == {"5-14", "1-7@", "2-9", "1-7"}
    chain.node.planet.owner = "1-7"
    assert (await client.read_work(Action.RAID, "9-3")).depends_on == {"9-3", "1-3@", "2-9", "1-7"}


async def test_a_clock_of_the_planet_is_named_from_v21_on(chain: Any, peaceful_v21: Any) -> None:
    peaceful_v21.node.clocks = {"blockStartOreMine": 1300100, "blockStartOreRefine": 1300200}
    client = await peaceful_v21.connected()
    assert (await client.read_work(Action.MINE, "5-14")).clock == "2-9/MINE"
    assert (await client.read_work(Action.REFINE, "5-14")).clock == "2-9/REFINE"
    assert (await client.read_work(Action.BUILD, "5-28")).clock == ""


async def test_a_clock_of_the_struct_is_shared_by_nobody(chain: Any) -> None:
    assert (await (await chain.connected()).read_work(Action.MINE, "5-14")).clock == ""


async def test_a_pause_tells_whose_change_can_end_it(chain: Any) -> None:
    client = await chain.connected()
    chain.node.fleets["9-3"].locationListForward = "9-4"
    with pytest.raises(WorkPaused) as behind:
        await client.read_work(Action.RAID, "9-3")
    assert behind.value.depends_on == {"9-3", "1-3@", "2-9"}
    chain.node.structs["5-14"].structAttributes.status &= ~4
    chain.node.structs["5-14"].structAttributes.isOnline = False
    with pytest.raises(WorkPaused) as offline:
        await client.read_work(Action.MINE, "5-14")
    assert offline.value.depends_on == {"5-14", "1-7@"}


async def test_hundreds_of_readings_at_once_all_get_their_answer(chain: Any) -> None:
    client = await chain.connected(call_timeout=30.0)
    works = await asyncio.gather(*(client.read_work(Action.BUILD, "5-28") for _ in range(300)))
    assert {reading.work.anchor for reading in works} == {1283950}


# All of a player's work


@pytest.fixture
def settled(chain: Any) -> Any:
    """Player 1-7 lives on 2-9, which lists two structs, and has a fleet that raids 2-9's neighbour."""
    chain.node.homes["1-7"] = {"planetId": "2-9", "fleetId": "9-7"}
    chain.node.planet.land.extend(["5-14", "", "5-28", ""])
    chain.node.fleets["9-7"] = types_pb2.Fleet(
        id="9-7", owner="1-7", locationType=types_pb2.planet, locationId="2-9", space=["", ""]
    )
    return chain


async def test_all_open_work_of_a_player_is_found(settled: Any) -> None:
    client = await settled.connected()
    assert await client.outstanding_work("1-7") == [
        (Action.MINE, "5-14"),
        (Action.REFINE, "5-14"),
        (Action.BUILD, "5-28"),
    ]


async def test_ships_and_the_command_ship_of_the_fleet_are_work_too(settled: Any) -> None:
    settled.node.planet.land[:] = [""]
    for struct_id in ("5-30", "5-31"):
        ship = settled.node.structs[struct_id] = type(settled.node.structs["5-28"])()
        ship.CopyFrom(settled.node.structs["5-28"])
        ship.Struct.id, ship.Struct.locationType, ship.Struct.locationId = struct_id, types_pb2.fleet, "9-7"
    settled.node.fleets["9-7"].commandStruct = "5-30"
    settled.node.fleets["9-7"].space[:] = ["", "5-31"]
    client = await settled.connected()
    assert await client.outstanding_work("1-7") == [(Action.BUILD, "5-30"), (Action.BUILD, "5-31")]


async def test_a_raid_is_work_while_the_fleet_is_first_and_the_clock_runs(settled: Any) -> None:
    settled.node.planet.land[:] = [""]
    settled.node.players["1-3"] = 0
    settled.node.homes["1-3"] = {"fleetId": "9-3"}
    client = await settled.connected()
    assert await client.outstanding_work("1-3") == [(Action.RAID, "9-3")]
    settled.node.raid_anchor = 0
    assert await client.outstanding_work("1-3") == []
    settled.node.raid_anchor = 1309000
    settled.node.fleets["9-3"].locationListForward = "9-4"
    assert await client.outstanding_work("1-3") == []


async def test_work_that_is_paused_or_gone_is_not_outstanding(settled: Any) -> None:
    client = await settled.connected()
    settled.node.planet_ore = 0
    assert (Action.MINE, "5-14") not in await client.outstanding_work("1-7")
    settled.node.players["1-7"] = 0
    assert await client.outstanding_work("1-7") == [(Action.BUILD, "5-28")]
    del settled.node.structs["5-28"]  # swept a moment ago
    assert await client.outstanding_work("1-7") == []


async def test_a_struct_of_somebody_else_is_no_work_of_the_player(settled: Any) -> None:
    settled.node.structs["5-28"].Struct.owner = "1-8"
    client = await settled.connected()
    assert (Action.BUILD, "5-28") not in await client.outstanding_work("1-7")


async def test_a_planet_under_raid_has_no_ore_work_from_v21_on(settled: Any) -> None:
    settled.node.version = "v0.21.0"
    settled.node.clocks = {"blockStartOreMine": 1300100, "blockStartOreRefine": 1300200}
    client = await settled.connected()
    assert await client.outstanding_work("1-7") == [(Action.BUILD, "5-28")]
    settled.node.planet.locationListStart = ""
    assert len(await client.outstanding_work("1-7")) == 3


async def test_a_player_without_planet_and_fleet_has_no_work(chain: Any) -> None:
    assert await (await chain.connected()).outstanding_work("1-7") == []


async def test_the_work_of_a_player_that_does_not_exist_is_gone(chain: Any) -> None:
    with pytest.raises(WorkGone, match="player 1-99 does not exist"):
        await (await chain.connected()).outstanding_work("1-99")


async def test_each_object_is_asked_for_once(settled: Any) -> None:
    client = await settled.connected()
    settled.node.calls.clear()
    await client.outstanding_work("1-7")
    asked = [call for call in settled.node.calls if call not in ("GetNodeInfo", "StructType")]
    assert sorted(asked) == ["Fleet", "Planet", "Player", "Struct", "Struct"]


async def test_a_list_that_cannot_be_one_is_a_bad_answer(settled: Any) -> None:
    client = await settled.connected()
    settled.node.planet.air.append("2-9")
    with pytest.raises(BadChainAnswer, match="struct of player 1-7"):
        await client.outstanding_work("1-7")
    settled.node.planet.air[:] = [f"5-{number}" for number in range(5000)]
    with pytest.raises(BadChainAnswer, match="at most 4096"):
        await client.outstanding_work("1-7")


async def test_outstanding_work_is_read_again_if_a_block_came_in_between(settled: Any) -> None:
    client = await settled.connected()

    async def advance_once() -> None:
        del settled.node.before["Fleet"]
        settled.node.height += 1
        settled.node.planet_ore = 0

    settled.node.before["Fleet"] = advance_once
    assert (Action.MINE, "5-14") not in await client.outstanding_work("1-7")


async def test_an_id_that_is_no_player_is_refused(chain: Any) -> None:
    with pytest.raises(InvalidInput, match="player_id"):
        await (await chain.connected()).outstanding_work("2-9")


# Signers


async def test_the_owners_own_key_with_the_bit_may_sign(chain: Any) -> None:
    await (await chain.connected()).check_signer(ADDRESS, Action.MINE, "5-14")
    assert "Permission" not in chain.node.calls


async def test_an_unregistered_address_is_a_key_problem(chain: Any) -> None:
    with pytest.raises(KeyProblem, match="structs1nobody is not registered"):
        await (await chain.connected()).check_signer("structs1nobody", Action.MINE, "5-14")


async def test_an_address_without_the_bit_is_a_key_problem(chain: Any) -> None:
    chain.node.addresses[ADDRESS] = ("1-7", 1)
    with pytest.raises(KeyProblem, match="PermHashMine"):
        await (await chain.connected()).check_signer(ADDRESS, Action.MINE, "5-14")


@pytest.mark.parametrize(("action", "object_id", "owner"), [(Action.MINE, "5-14", "1-7"), (Action.RAID, "9-3", "1-3")])
async def test_a_strangers_key_needs_the_owners_grant(chain: Any, action: Action, object_id: str, owner: str) -> None:
    chain.node.addresses[ADDRESS] = ("1-20", 15728641)
    client = await chain.connected()
    with pytest.raises(KeyProblem, match=f"player 1-20 lacks PermHash.* on player {owner}"):
        await client.check_signer(ADDRESS, action, object_id)
    chain.node.permissions[f"{owner}@1-20"] = 15728640
    await client.check_signer(ADDRESS, action, object_id)


async def test_a_grant_in_the_other_direction_is_none(chain: Any) -> None:
    chain.node.addresses[ADDRESS] = ("1-20", 15728641)
    chain.node.permissions["1-20@1-7"] = 15728640
    with pytest.raises(KeyProblem):
        await (await chain.connected()).check_signer(ADDRESS, Action.MINE, "5-14")


async def test_the_rights_of_a_key_are_asked_for_once_for_all_objects_of_an_owner(chain: Any) -> None:
    client = await chain.connected()
    await client.check_signer(ADDRESS, Action.MINE, "5-14")
    asked = chain.node.calls.count("Address")
    await client.check_signer(ADDRESS, Action.MINE, "5-14")
    assert chain.node.calls.count("Address") == asked


async def test_a_right_to_one_action_is_none_to_another(chain: Any) -> None:
    client = await chain.connected()
    chain.node.addresses[ADDRESS] = ("1-7", 1 << 21)
    await client.check_signer(ADDRESS, Action.MINE, "5-14")
    with pytest.raises(KeyProblem, match="PermHashBuild"):
        await client.check_signer(ADDRESS, Action.BUILD, "5-14")


async def test_who_owns_an_object_is_not_asked_again_right_after_its_reading(chain: Any) -> None:
    client = await chain.connected()
    await client.read_work(Action.MINE, "5-14")
    asked = chain.node.calls.count("Struct")
    await client.check_signer(ADDRESS, Action.MINE, "5-14")
    assert chain.node.calls.count("Struct") == asked


# Accounts and transactions


async def test_an_account_has_its_number_and_sequence(chain: Any) -> None:
    assert await (await chain.connected()).account(ADDRESS) == Account(ADDRESS, 17, 42)


async def test_a_new_account_has_zeros(chain: Any) -> None:
    chain.node.accounts[ADDRESS].account_number = chain.node.accounts[ADDRESS].sequence = 0
    assert await (await chain.connected()).account(ADDRESS) == Account(ADDRESS, 0, 0)


async def test_an_account_that_does_not_exist_is_a_key_problem(chain: Any) -> None:
    with pytest.raises(KeyProblem, match="does not exist on chain devnet-1"):
        await (await chain.connected()).account("structs1nobody")


async def test_the_answer_about_another_account_is_a_bad_answer(chain: Any) -> None:
    chain.node.accounts[ADDRESS].address = "structs1other"
    with pytest.raises(BadChainAnswer, match="asked for account"):
        await (await chain.connected()).account(ADDRESS)


async def test_a_transaction_that_is_admitted_is_answered_with_code_0_and_the_local_hash(chain: Any) -> None:
    client = await chain.connected()
    assert await client.broadcast(TX) == TxAnswer(TX_HASH, 0, "", "")
    assert chain.node.offered == [TX]


@pytest.mark.parametrize(("code", "codespace"), [(19, "sdk"), (32, "sdk"), (2031, "structs-ante"), (1, "undefined")])
async def test_a_refused_transaction_is_an_answer_and_no_exception(chain: Any, code: int, codespace: str) -> None:
    chain.node.broadcast_answer = (code, codespace, "account sequence mismatch, expected 42, got 41")
    answer = await (await chain.connected()).broadcast(TX)
    assert (answer.code, answer.codespace, answer.height) == (code, codespace, None)
    assert answer.log == "account sequence mismatch, expected 42, got 41"


async def test_a_node_that_says_already_exists_by_status_answers_as_the_mempool_cache(chain: Any) -> None:
    chain.node.faults["BroadcastTx"] = (grpc.StatusCode.ALREADY_EXISTS, "tx already exists in cache")
    answer = await (await chain.connected()).broadcast(TX)
    assert (answer.tx_hash, answer.code, answer.codespace) == (TX_HASH, 19, "sdk")


async def test_a_broadcast_without_an_answer_is_unavailable_and_sent_once(chain: Any) -> None:
    client = await chain.connected(call_timeout=1.0)
    chain.node.before["BroadcastTx"] = asyncio.Event().wait
    with pytest.raises(ChainUnavailable):
        await client.broadcast(TX)
    assert chain.node.offered == [TX]


@pytest.mark.parametrize("size", [0, 1_048_577])
async def test_a_transaction_of_impossible_size_is_not_sent(chain: Any, size: int) -> None:
    with pytest.raises(InvalidInput, match="bytes"):
        await (await chain.connected()).broadcast(bytes(size))
    assert chain.node.offered == []


async def test_a_long_log_is_cut(chain: Any) -> None:
    chain.node.broadcast_answer = (1, "undefined", "x" * 100_000)
    assert len((await (await chain.connected()).broadcast(TX)).log) == 4096


async def test_an_included_transaction_is_found_with_its_height_and_code(chain: Any) -> None:
    client = await chain.connected()
    assert await client.find_transaction(TX_HASH) is None
    chain.node.transactions[TX_HASH] = abci_pb2.TxResponse(
        txhash=TX_HASH, height=1310001, code=1800, codespace="structs", raw_log="work failure"
    )
    assert await client.find_transaction(TX_HASH) == TxAnswer(TX_HASH, 1800, "structs", "work failure", 1310001)


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL])
@pytest.mark.parametrize("told", ["RPC error -32603 - Internal error: tx ({}) not found", "tx not found: {}"])
async def test_a_transaction_that_a_node_does_not_find_is_in_no_block_however_it_says_so(
    chain: Any, code: grpc.StatusCode, told: str
) -> None:
    client = await chain.connected()
    for spelled in (TX_HASH, TX_HASH.lower()):
        chain.node.faults["GetTx"] = (code, told.format(spelled))
        assert await client.find_transaction(TX_HASH) is None


@pytest.mark.parametrize(
    "told",
    ["tx not found: " + "AB" * 32, f"transaction indexing is disabled: {TX_HASH}", f"{TX_HASH} not found in time", ""],
)
async def test_an_error_that_does_not_say_that_this_transaction_is_nowhere_says_nothing_of_it(
    chain: Any, told: str
) -> None:
    client = await chain.connected()
    for code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
        chain.node.faults["GetTx"] = (code, told)
        with pytest.raises(ChainUnavailable):
            await client.find_transaction(TX_HASH)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (abci_pb2.TxResponse(txhash="AB" * 32, height=1310001), "answered about"),
        (abci_pb2.TxResponse(txhash="", height=1310001), "answered about"),
        (abci_pb2.TxResponse(txhash=TX_HASH, height=0), "in block 0"),
    ],
)
async def test_an_answer_about_another_transaction_or_no_block_is_a_bad_answer(
    chain: Any, response: abci_pb2.TxResponse, expected: str
) -> None:
    chain.node.transactions[TX_HASH] = response
    with pytest.raises(BadChainAnswer, match=expected):
        await (await chain.connected()).find_transaction(TX_HASH)


@pytest.mark.parametrize("tx_hash", ["", "AB", TX_HASH.lower(), "0x" + TX_HASH[2:]])
async def test_a_text_that_is_no_transaction_hash_is_refused(chain: Any, tx_hash: str) -> None:
    with pytest.raises(InvalidInput, match="64 uppercase"):
        await (await chain.connected()).find_transaction(tx_hash)
