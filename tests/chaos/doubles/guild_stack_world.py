"""What stands around a coordinator on a guild stack: its indexer, its signing agent, a node and an operator.

The chain is the devnet's, in the same process and without sockets; the database is a real one. Time passes by the
block: after each, everything in the database is six seconds older.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from common_runs import BLOCK_SECONDS, RAIDED
from guild_stack_catalogue import Step

from coordinator.chain.client import TxAnswer
from coordinator.submission import transaction
from coordinator.submission.keys import SigningKey
from devnet.chain import MempoolRefusal
from devnet.messages import Completion
from devnet.node import Devnet
from devnet.state import State
from devnet.transactions import decode, tx_hash
from hashfleet.action import Action, Work
from hashfleet.errors import ChainUnavailable
from hashfleet.proof import Proof

#: Seconds after which an operator looks at a row that does not get on.
OPERATOR_SECONDS: Final = 240
#: Blocks after which the agent frees an account: it sleeps ten seconds.
_FREED_AFTER: Final = 2
#: Tries to get an account for a row, after which somebody restarts it.
_PATIENCE: Final = 12

Row = dict[str, Any]
_KEYS: Final = {
    "structs.struct": ("id", "index", "type", "owner", "location_type", "location_id", "is_destroyed"),
    "structs.struct_attribute": ("id", "object_id", "attribute_type", "val"),
    "structs.planet": ("id", "owner", "status", "location_list_start"),
    "structs.planet_attribute": ("id", "object_id", "attribute_type", "val"),
    "structs.planet_raid": ("planet_id", "fleet_id", "status"),
    "structs.fleet": ("id", "owner", "location_type", "location_id", "status", "location_list_forward"),
    "structs.grid": ("id", "attribute_type", "object_type", "object_id", "val"),
    "structs.player": ("id", "index", "planet_id", "fleet_id"),
    "structs.player_object": ("object_id", "player_id"),
    "structs.permission": ("id", "object_type", "object_index", "object_id", "player_id", "val"),
    "structs.struct_type": (
        "id",
        "type",
        "build_difficulty",
        "planetary_mining",
        "planetary_refinery",
        "ore_mining_difficulty",
        "ore_refining_difficulty",
    ),
}
_COMMANDS: Final = {
    "struct-build-complete": Action.BUILD,
    "struct-ore-mine-complete": Action.MINE,
    "struct-ore-refine-complete": Action.REFINE,
    "planet-raid-complete": Action.RAID,
}


class Indexer:
    """Writes the chain's state into the stack's tables, what changed with each block."""

    def __init__(self, database: psycopg.Connection[Any], devnet: Devnet, chain: str) -> None:
        self._database, self._devnet, self._chain = database, devnet, chain
        self._written: dict[tuple[str, object], tuple[object, ...]] = {}
        self._raids: dict[str, str] = {}
        #: Blocks that it is behind, and whether it says so; it stands still while `halted`.
        self.behind = 0
        self.halted = False
        #: Blocks of which it tells nobody.
        self.silent = 0
        self._snapshots: dict[int, dict[tuple[str, object], tuple[object, ...]]] = {}
        self._height = -1

    def index(self) -> int:
        """Take in the newest block; the height that the tables tell now."""
        height = self._devnet.height
        for included in self._devnet.chain.last_block.txs:
            if included.result.code == 0:
                self._note_raid(included.raw)
        self._snapshots[height] = self._rows(self._devnet.chain.state)
        self._snapshots.pop(height - 40, None)
        if not self.halted:
            self._write(max(height - self.behind, self._height, min(self._snapshots)), height)
        return self._height

    def _write(self, height: int, tip: int) -> None:
        rows = self._snapshots[height]
        changed = [(key, row) for key, row in rows.items() if self._written.get(key) != row]
        gone = [key for key in self._written if key not in rows]
        with self._database.transaction(), self._database.cursor() as cursor:
            if self.silent > 0:
                self.silent -= 1
                cursor.execute("SET LOCAL session_replication_role = replica")
            for table in dict.fromkeys(table for (table, _), _ in changed):
                cursor.executemany(_upsert(table), [row for (of, _), row in changed if of == table])
            for table, key in gone:
                cursor.execute(f"DELETE FROM {table} WHERE {_KEYS[table][0]} = %s".encode(), (key,))
            touched = {str(key) for (_, key), _ in changed} | {str(key) for _, key in gone}
            named = sorted({"-".join(one.split("-")[-2:]) for one in touched})
            cursor.executemany(
                "INSERT INTO structs.planet_activity (seq, planet_id, category, detail) "
                "VALUES (%s, '2-7', 'struct_status', %s)",
                [(number, json.dumps({"object_id": one})) for number, one in enumerate(named)],
            )
            cursor.execute(
                "INSERT INTO structs.current_block (chain, height, updated_at, status, lag_blocks, tip_height) "
                "VALUES (%s, %s, clock_timestamp(), %s, %s, %s) ON CONFLICT (chain) DO UPDATE SET "
                "height = excluded.height, updated_at = excluded.updated_at, status = excluded.status, "
                "lag_blocks = excluded.lag_blocks, tip_height = excluded.tip_height",
                (self._chain, height, "current" if tip - height < 2 else "syncing", tip - height, tip),
            )
        self._written, self._height = rows, height

    def _note_raid(self, raw: bytes) -> None:
        tx = decode(raw, self._devnet.chain.state.rules)
        for message in tx.messages:
            if isinstance(message, Completion) and message.action is Action.RAID:
                self._raids[RAIDED] = message.object_id

    def _rows(self, state: State) -> dict[tuple[str, object], tuple[object, ...]]:
        rows: list[tuple[str, tuple[object, ...]]] = []
        for struct in state.structs.values():
            at = "planet" if struct.location_id in state.planets else "fleet"
            index = int(struct.id.split("-")[1])
            place = (at, struct.location_id)
            rows.append(("structs.struct", (struct.id, index, struct.type, struct.owner, *place, struct.destroyed)))
            rows.append(("structs.player_object", (struct.id, struct.owner)))
            clocks = (struct.block_start_build, struct.block_start_ore_mine, struct.block_start_ore_refine)
            for number, value in enumerate((int(struct.status), *clocks), 1):
                if value or number == 1:
                    attribute = (f"{number}-{struct.id}", struct.id, str(number), value)
                    rows.append(("structs.struct_attribute", attribute))
        for planet in state.planets.values():
            status = "complete" if planet.complete else "active"
            rows.append(("structs.planet", (planet.id, planet.owner, status, (*planet.queue, "")[0])))
            values = {
                0: planet.shield,
                10: planet.block_start_raid,
                12: planet.block_start_ore_mine,
                13: planet.block_start_ore_refine,
            }
            for number, value in values.items():
                if value or not number:
                    attribute = (f"{number}-{planet.id}", planet.id, str(number), value)
                    rows.append(("structs.planet_attribute", attribute))
            rows.append(("structs.grid", (f"0-{planet.id}", "ore", "planet", planet.id, planet.ore)))
        for planet_id, fleet_id in self._raids.items():
            rows.append(("structs.planet_raid", (planet_id, fleet_id, "raidSuccessful")))
        for fleet in state.fleets.values():
            where = ("planet", fleet.location_id, "away" if fleet.away else "onStation")
            rows.append(("structs.fleet", (fleet.id, fleet.owner, *where, state.queue_neighbours(fleet)[0])))
            rows.append(("structs.player_object", (fleet.id, fleet.owner)))
        for player in state.players.values():
            index = int(player.id.split("-")[1])
            rows.append(("structs.player", (player.id, index, player.planet_id, player.fleet_id)))
            rows.append(("structs.grid", (f"0-{player.id}", "ore", "player", player.id, player.ore)))
        for address in state.addresses.values():
            right = (f"8-{address.address}", "address", address.address, None, address.player_id, address.permissions)
            rows.append(("structs.permission", right))
        for grant, bits in state.grants.items():
            owner, _, player_id = grant.partition("@")
            rows.append(("structs.permission", (grant, "player", None, owner, player_id, bits)))
        for kind in state.struct_types.values():
            systems = ("oreMiningRig" if kind.mine_range else None, "oreRefinery" if kind.refine_range else None)
            ranges = (kind.mine_range, kind.refine_range)
            rows.append(("structs.struct_type", (kind.id, kind.name, kind.build_range, *systems, *ranges)))
        return {(table, row[0]): row for table, row in rows}


def _upsert(table: str) -> bytes:
    columns = _KEYS[table]
    places, (key, *others) = ", ".join(["%s"] * len(columns)), columns
    update = ", ".join(f"{column} = excluded.{column}" for column in others)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT ({key}) DO UPDATE SET {update}"
    ).encode()


@dataclass
class Sent:
    """What really became of a row."""

    row: int
    object_id: str
    nonce: str
    hash: str
    address: str
    sequence: int
    admitted: bool


class Agent:
    """The stock signing agent, with keys of its own and the chain at hand; each of its faults happens so many times."""

    def __init__(
        self,
        database: psycopg.Connection[Any],
        devnet: Devnet,
        keys: tuple[SigningKey, ...],
        rng: random.Random,
        reached: Callable[[Step], Awaitable[None]],
    ) -> None:
        self._database, self._devnet, self._random, self._reached = database, devnet, rng, reached
        self._keys = {key.address: key for key in keys}
        self._asleep_until = 0
        #: The row that it is at.
        self.row: Row | None = None
        self._busy: dict[str, int] = {}
        self._tries = 0
        self.sent: list[Sent] = []
        self.off = False
        #: How often each of these is still to happen, and how often it did.
        self.orders = {"crash-claimed": 0, "crash-sent": 0, "no-output": 0, "fails": 0, "garbled": 0}
        self.happened = 0

    def _happens(self, name: str) -> bool:
        if not self.orders[name]:
            return False
        self.orders[name] -= 1
        self.happened += 1
        return True

    async def turn(self) -> None:
        """What it does within a block."""
        height = self._devnet.height
        for address, until in list(self._busy.items()):
            if height >= until:
                del self._busy[address]
                self._do("UPDATE signer.account SET status = 'available' WHERE address = %s", address)
        for _ in range(3):
            if self.off or height < self._asleep_until:
                return
            if self.row is None:
                if self._ask("SELECT count(*) FROM signer.tx WHERE status = 'pending'"):
                    await self._reached(Step.ROW_PENDING)
                    if self.off:
                        return
                told = self._ask("SELECT signer.claim_internal_transaction()")
                if not told or told.get("id") is None:
                    self._asleep_until = height + self._random.choice((1, 1, 2, 4))
                    return
                self.row = told
                await self._reached(Step.ROW_CLAIMED)
            row = self.row
            if self._happens("crash-claimed"):
                self._crash()
                return
            account = self._ask("SELECT signer.claim_internal_account(%s)", row["id"])
            if not account or not account.get("address"):
                self._tries += 1  # again after ten seconds; somebody restarts it in the end
                if self._tries > _PATIENCE:
                    self._crash()
                return
            self._tries = 0
            output = self._command(row, self._keys[account["address"]])
            await self._reached(Step.ROW_SENT)
            if self._happens("crash-sent"):
                self._crash()
                return
            if output and self._happens("no-output"):
                output = ""
            if output and self._happens("garbled"):
                output = "panic: runtime error"
            self._do("SELECT signer.transaction_broadcast_results(%s, %s)", row["id"], output)
            self._busy[account["address"]] = height + _FREED_AFTER
            self.row = None

    def _crash(self) -> None:
        """It forgets all; its row stays claimed, its accounts stay signing."""
        self.row, self._tries = None, 0
        self._busy.clear()
        self._asleep_until = self._devnet.height + self._random.randint(1, 10)

    def _command(self, row: Row, key: SigningKey) -> str:
        """What ``structsd tx`` prints; nothing if it fails before a node is offered anything."""
        if self._happens("fails"):
            return ""
        object_id, proof, nonce = row["args"]
        chain = self._devnet.chain
        account = chain.state.accounts[key.address]
        raw = signed(
            _COMMANDS[row["command"]],
            object_id,
            Proof(nonce, proof),
            key,
            chain.chain_id,
            account.number,
            account.sequence,
        )
        if chain.simulate(raw).code != 0:
            return ""
        try:
            hash_, told = chain.broadcast(raw)
            code, codespace, log = told.code, told.codespace, told.log
        except MempoolRefusal as refusal:
            hash_, code, codespace, log = tx_hash(raw), refusal.code, refusal.codespace, refusal.log
        self.sent.append(Sent(row["id"], object_id, nonce, hash_, key.address, account.sequence, code == 0))
        return json.dumps({"height": "0", "txhash": hash_, "codespace": codespace, "code": code, "raw_log": log})

    @property
    def by_hash(self) -> dict[str, Sent]:
        """What nodes admitted. What another row sent again, with the sequence of one that was lost, is that row's."""
        return {sent.hash: sent for sent in self.sent if sent.admitted}

    def may_land(self, row: Row) -> bool:
        """Whether a transaction may still come of this row, by what really happened to it."""
        if row["status"] == "pending" or (self.row is not None and self.row["id"] == row["id"]):
            return True
        return any(self._in_mempool(sent) for sent in self.sent if sent.row == row["id"])

    def _in_mempool(self, sent: Sent) -> bool:
        state = self._devnet.chain.state
        waits = sent.admitted and sent is self.by_hash[sent.hash] and sent.hash in self._devnet.chain._mempool
        return waits and sent.sequence >= state.accounts[sent.address].sequence

    def has_landed(self, row: Row) -> bool:
        """Whether a block holds a transaction of this row that succeeded."""
        found = [self._devnet.chain.find(sent.hash) for sent in self.by_hash.values() if sent.row == row["id"]]
        return any(one is not None and one.result.code == 0 for one in found)

    def rows(self) -> list[Row]:
        """All rows, oldest first; `age` in seconds."""
        found: list[Row] = self._ask(
            "SELECT coalesce(jsonb_agg(to_jsonb(t) || jsonb_build_object('age', "
            "extract(epoch FROM clock_timestamp() - updated_at)) ORDER BY t.id), '[]') FROM signer.tx t"
        )
        return found

    def free_accounts(self) -> None:
        """An operator frees the accounts that a crash left."""
        for address in self._keys:
            if address not in self._busy:
                self._do(
                    "UPDATE signer.account SET status = 'available' WHERE address = %s AND status = 'signing'", address
                )

    def _ask(self, query: str, *values: object) -> Any:
        row = self._database.execute(query.encode(), values).fetchone()
        return None if row is None else row[0]

    def _do(self, statement: str, *values: object) -> None:
        self._database.execute(statement.encode(), values)


def signed(
    action: Action, object_id: str, proof: Proof, key: SigningKey, chain_id: str, number: int, sequence: int
) -> bytes:
    """The transaction as the command line makes it: from words, which it does not check, and without a timeout."""
    work = Work(action, object_id, 1, 2, RAIDED if action is Action.RAID else None)
    message = transaction.completing_message(work, proof, key.address)
    return transaction._sign(
        [message],
        key,
        chain_id=chain_id,
        account_number=number,
        sequence=sequence,
        timeout_height=0,
        gas_limit=transaction.GAS_LIMIT,
    ).tx_bytes


@dataclass
class Node:
    """What a coordinator asks of a node beside the stack."""

    devnet: Devnet
    down: bool = False

    @property
    def chain_id(self) -> str:
        return self.devnet.chain_id

    async def connect(self) -> None:
        self._answer()

    async def close(self) -> None: ...

    async def find_transaction(self, tx_hash: str) -> TxAnswer | None:
        self._answer()
        found = self.devnet.chain.view().find(tx_hash)
        if found is None:
            return None
        return TxAnswer(found.hash, found.result.code, found.result.codespace, found.result.log, found.height)

    def _answer(self) -> None:
        if self.down:
            raise ChainUnavailable("the node is down")


def let_time_pass(database: psycopg.Connection[Any]) -> None:
    """A block's time."""
    database.execute(
        f"WITH rows AS (UPDATE signer.tx SET updated_at = updated_at - interval '{BLOCK_SECONDS} s', "
        f"created_at = created_at - interval '{BLOCK_SECONDS} s') "
        f"UPDATE structs.current_block SET updated_at = updated_at - interval '{BLOCK_SECONDS} s'".encode()
    )


def empty(database: psycopg.Connection[Any]) -> None:
    """A stack without rows, whose agent numbers from 1; with so few of them this is quicker than to truncate."""
    tables = (*_KEYS, "structs.current_block", "structs.planet_activity", "signer.role", "signer.account", "signer.tx")
    deletions = "; ".join(f"DELETE FROM {table}" for table in tables)
    database.execute(f"{deletions}; ALTER SEQUENCE signer.tx_id_seq RESTART".encode())


def add_keys(database: psycopg.Connection[Any], player_id: str, keys: tuple[SigningKey, ...]) -> None:
    """The agent's accounts."""
    database.execute("INSERT INTO signer.role (id, player_id, status) VALUES (1, %s, 'ready')", (player_id,))
    for key in keys:
        database.execute(
            "INSERT INTO signer.account (role_id, address, status) VALUES (1, %s, 'available')", (key.address,)
        )
