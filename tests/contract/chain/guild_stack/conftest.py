"""A guild stack's database on a real PostgreSQL server, its signing agent as the stock one behaves, and a node."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from coordinator.chain.client import TxAnswer
from coordinator.chain.guild_stack.client import GuildStackClient
from coordinator.core.job import Job, JobState
from coordinator.store.protocol import Store
from coordinator.store.sql import open_store
from coordinator.submission.guild_stack import GuildStackSubmitter
from coordinator.submission.outcome import Outcome, Submission
from hashfleet.action import Action, Work
from hashfleet.errors import ChainUnavailable
from hashfleet.job_request import JobRequest
from hashfleet.proof import Proof, verify

CHAIN_ID = "structstestnet-111"
HEIGHT = 1000
OWNER, ADDRESS = "1-7", "structs1agentkey"
ALL_HASH_BITS = 15728641


class Stack:
    """The database as indexer and signing agent see it. It starts with one of each kind of work for player 1-7:

    build 5-1 (anchor 320, range 700), rig 5-14 and refinery 5-15 on planet 2-9 with planet clocks, fleet 9-7 first at
    planet 2-20 of player 1-8.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.do(
            """
            INSERT INTO structs.struct_type VALUES
              (1, 'Command Ship', 'fleet', 200, NULL, NULL, NULL, NULL),
              (14, 'Ore Extractor', 'planet', 700, 'oreMiningRig', 'noPlanetaryRefinery', 150, 0),
              (15, 'Ore Refinery', 'planet', 700, 'noPlanetaryMining', 'oreRefinery', 0, 160);
            INSERT INTO structs.player (id, index, planet_id, fleet_id) VALUES
              ('1-7', 7, '2-9', '9-7'), ('1-8', 8, '2-20', '9-8');
            INSERT INTO structs.planet (id, owner, status, location_list_start) VALUES
              ('2-9', '1-7', 'active', ''), ('2-20', '1-8', 'active', '9-7');
            INSERT INTO structs.fleet (id, owner, location_type, location_id, status, location_list_forward) VALUES
              ('9-7', '1-7', 'planet', '2-20', 'away', ''), ('9-8', '1-8', 'planet', '2-20', 'onStation', '');
            """
        )
        self.add_struct("5-1", 14, status=1, build_anchor=320)
        self.add_struct("5-14", 14, status=7)
        self.add_struct("5-15", 15, status=7)
        for attribute, value in (("12-2-9", 800), ("13-2-9", 810), ("10-2-20", 850), ("0-2-20", 125)):
            self.set_planet(attribute, value)
        self.set_ore("2-9", 5)
        self.set_ore("1-7", 3)
        self.do(
            "INSERT INTO structs.player_object SELECT id, owner FROM structs.struct;"
            "INSERT INTO signer.role (id, player_id, status) VALUES (1, '1-7', 'ready')"
        )
        self.add_account(ADDRESS, OWNER, ALL_HASH_BITS)
        self.index(HEIGHT)

    def do(self, statement: str, **values: object) -> None:
        self.connection.execute(statement.encode(), values or None)

    def ask(self, query: str, **values: object) -> Any:
        row = self.connection.execute(query.encode(), values or None).fetchone()
        return None if row is None else row[0]

    # What the indexer writes

    def index(self, height: int, *, chain: str = CHAIN_ID, status: str | None = "current", age: float = 0.0) -> None:
        self.do(
            "INSERT INTO structs.current_block (chain, height, updated_at, status, lag_blocks, tip_height) "
            "VALUES (%(c)s, %(h)s, clock_timestamp() - %(a)s * interval '1 second', %(s)s, 0, %(h)s) "
            "ON CONFLICT (chain) DO UPDATE SET height = excluded.height, updated_at = excluded.updated_at, "
            "status = excluded.status, lag_blocks = 0, tip_height = excluded.tip_height",
            c=chain,
            h=height,
            s=status,
            a=age,
        )

    def add_struct(
        self, struct_id: str, kind: int, *, status: int, build_anchor: int = 0, owner: str = OWNER, at: str = "2-9"
    ) -> None:
        self.do(
            "INSERT INTO structs.struct (id, index, type, owner, location_type, location_id) "
            "VALUES (%(i)s, split_part(%(i)s, '-', 2)::int, %(t)s, %(o)s, 'planet', %(p)s)",
            i=struct_id,
            t=kind,
            o=owner,
            p=at,
        )
        self.set_struct(f"1-{struct_id}", status)
        if build_anchor:
            self.set_struct(f"2-{struct_id}", build_anchor)

    def set_struct(self, attribute: str, value: int) -> None:
        self._set("structs.struct_attribute", attribute, value)

    def set_planet(self, attribute: str, value: int) -> None:
        self._set("structs.planet_attribute", attribute, value)

    def _set(self, table: str, attribute: str, value: int) -> None:
        self.do(
            f"INSERT INTO {table} (id, object_id, attribute_type, val) VALUES (%(i)s, %(o)s, 'named', %(v)s) "
            "ON CONFLICT (id) DO UPDATE SET val = excluded.val",
            i=attribute,
            o=attribute.partition("-")[2],
            v=value,
        )

    def set_ore(self, object_id: str, amount: int) -> None:
        self.do(
            "INSERT INTO structs.grid (id, attribute_type, object_type, object_id, val) "
            "VALUES ('0-' || %(o)s, 'ore', 'thing', %(o)s, %(v)s) ON CONFLICT (id) DO UPDATE SET val = excluded.val",
            o=object_id,
            v=amount,
        )

    def add_account(self, address: str, player_id: str, bits: int, status: str = "available") -> None:
        self.do(
            "INSERT INTO signer.account (role_id, address, status) "
            "VALUES (1, %(a)s, %(s)s::structs.signer_account_status)",
            a=address,
            s=status,
        )
        self.do(
            "INSERT INTO structs.permission (id, object_type, object_index, player_id, val) "
            "VALUES ('8-' || %(a)s, 'address', %(a)s, %(p)s, %(v)s)",
            a=address,
            p=player_id,
            v=bits,
        )

    def grant(self, owner: str, player_id: str, bits: int) -> None:
        self.do(
            "INSERT INTO structs.permission (id, object_type, object_id, player_id, val) "
            "VALUES (%(o)s || '@' || %(p)s, 'player', %(o)s, %(p)s, %(v)s)",
            o=owner,
            p=player_id,
            v=bits,
        )

    def activity(self, planet_id: str, category: str, detail: dict[str, object], *, seq: int = 1) -> None:
        self.do(
            "INSERT INTO structs.planet_activity (seq, planet_id, category, detail) "
            "VALUES (%(n)s, %(p)s, %(c)s::structs.grass_category, %(d)s)",
            n=seq,
            p=planet_id,
            c=category,
            d=json.dumps(detail),
        )

    # The outbox

    def rows(self) -> list[dict[str, Any]]:
        return self.ask("SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t.id), '[]') FROM signer.tx t")  # type: ignore[no-any-return]

    def let_pass(self, seconds: float) -> None:
        """All rows become older."""
        self.do("UPDATE signer.tx SET updated_at = updated_at - %(s)s * interval '1 second'", s=seconds)


class Agent:
    """The stock signing agent: claims the oldest row, claims an account, stores what the command printed."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.sent = 0

    def claim(self) -> dict[str, Any] | None:
        """The next row, or None: the function then gives an object of nulls."""
        row: dict[str, Any] | None = self.stack.ask("SELECT signer.claim_internal_transaction()")
        return row if row and row.get("id") is not None else None

    def claim_account(self, row_id: int) -> str | None:
        account = self.stack.ask("SELECT signer.claim_internal_account(%(i)s)", i=row_id)
        return account.get("address") if account else None

    def finish(self, row_id: int, output: str) -> None:
        self.stack.do("SELECT signer.transaction_broadcast_results(%(i)s, %(o)s)", i=row_id, o=output)
        self.stack.do("UPDATE signer.account SET status = 'available' WHERE status = 'signing'")

    def step(self, output: Callable[[dict[str, Any]], str] | None = None) -> dict[str, Any] | None:
        """Sign and send one row; `output` says what the command prints (else that a node admitted it)."""
        row = self.claim()
        if row is None or self.claim_account(row["id"]) is None:
            return None
        self.sent += 1
        row["txhash"] = f"{row['id']:064X}"
        self.finish(row["id"], output(row) if output else admitted(row))
        return row


def admitted(row: dict[str, Any], code: int = 0, codespace: str = "", log: str = "") -> str:
    return json.dumps(
        {"height": "0", "txhash": f"{row['id']:064X}", "codespace": codespace, "code": code, "raw_log": log}
    )


@dataclass
class Node:
    """What is asked of a chain's node beside the database: look-ups by hash."""

    chain_id: str = CHAIN_ID
    transactions: dict[str, TxAnswer] = field(default_factory=dict)
    down: bool = False

    async def connect(self) -> None:
        if self.down:
            raise ChainUnavailable("the node is down")

    async def close(self) -> None: ...

    async def find_transaction(self, tx_hash: str) -> TxAnswer | None:
        if self.down:
            raise ChainUnavailable("the node is down")
        return self.transactions.get(tx_hash)

    def include(self, tx_hash: str, height: int, code: int = 0, codespace: str = "", log: str = "") -> None:
        self.transactions[tx_hash] = TxAnswer(tx_hash, code, codespace, log, height)


@pytest.fixture(scope="session")
def stack_database(postgres_server: Any) -> str:
    return str(postgres_server.create())


@pytest.fixture
def stack_url(postgres_server: Any, stack_database: str, root: Path) -> str:
    """A guild stack's database without rows. Its schemas are made anew: much quicker than a database for each test."""
    url: str = postgres_server.url(stack_database)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute("SET client_min_messages = warning")
        connection.execute("DROP SCHEMA IF EXISTS structs, signer, view CASCADE")
        connection.execute((root / "tests" / "guild-stack-schema.sql").read_bytes())
    return url


@pytest.fixture
def stack(stack_url: str) -> Iterator[Stack]:
    with psycopg.connect(stack_url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        yield Stack(connection)


@pytest.fixture
def granted_url(stack: Stack, stack_url: str, postgres_server: Any, root: Path) -> Iterator[str]:
    """The database as a role sees it that has what docs/chain.md lists and nothing else."""
    text = (root / "docs" / "chain.md").read_text()
    grants = text.split("```sql", 1)[1].split("```", 1)[0].replace("TO fleet;", "TO granted_role;")
    stack.do("DROP ROLE IF EXISTS granted_role; CREATE ROLE granted_role LOGIN")
    stack.do(grants)
    yield postgres_server.url(stack_url.partition("@/")[2].partition("?")[0], user="granted_role")
    stack.do("DROP OWNED BY granted_role; DROP ROLE granted_role")


@pytest.fixture
def agent(stack: Stack) -> Agent:
    return Agent(stack)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest_asyncio.fixture
async def client(stack: Stack, stack_url: str) -> AsyncIterator[GuildStackClient]:
    made = GuildStackClient(stack_url, CHAIN_ID, poll_seconds=0.05)
    await made.connect()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def client_with_node(stack: Stack, stack_url: str, node: Node) -> AsyncIterator[GuildStackClient]:
    made = GuildStackClient(stack_url, CHAIN_ID, node=node, poll_seconds=0.05)  # type: ignore[arg-type]
    await made.connect()
    yield made
    await made.close()


def find_proof(work: Work, zeros: int = 2) -> Proof:
    return next(proof for n in range(10**6) if (proof := verify(work.prefix, str(n))).zeros >= zeros)


class Desk:
    """A submitter, and what it told."""

    def __init__(self, stack: Stack, chain: GuildStackClient, store: Store) -> None:
        self.stack, self.chain, self.store = stack, chain, store
        self.told: list[Outcome] = []
        self.height = HEIGHT
        self.submitter = self.new()

    def new(self) -> GuildStackSubmitter:
        """A submitter without memory, as after a crash."""

        async def take(outcome: Outcome) -> None:
            self.told.append(outcome)

        self.submitter = GuildStackSubmitter(self.chain, self.store, clock=lambda: 1.0, on_outcome=take)
        return self.submitter

    async def submission(self, action: Action, object_id: str, job_id: str = "pow_1", zeros: int = 2) -> Submission:
        work = (await self.chain.read_work(action, object_id)).work
        request = JobRequest(action, object_id, OWNER)
        await self.store.save_jobs([Job(job_id, request, JobState.SUBMITTING, 1.0, 1.0, work=work)])
        return Submission(job_id, work, find_proof(work, zeros), 1)

    async def block(self, height: int | None = None) -> None:
        """One more block, and all that the submitter does about it."""
        self.height = height or self.height + 1
        self.stack.index(self.height)
        self.submitter.block_seen(self.height)
        await self.submitter._advance()

    def kinds(self) -> list[str]:
        return [type(outcome).__name__ for outcome in self.told]


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = await open_store(tmp_path / "jobs.sqlite")
    yield made
    await made.close()


@pytest.fixture
def desk(stack: Stack, client: GuildStackClient, store: Store) -> Desk:
    """Without a node."""
    return Desk(stack, client, store)


@pytest.fixture
def make_desk() -> type[Desk]:
    return Desk


@pytest.fixture
def desk_with_node(stack: Stack, client_with_node: GuildStackClient, store: Store) -> Desk:
    return Desk(stack, client_with_node, store)


@pytest.fixture
def admit() -> Callable[..., str]:
    """Output of a command whose transaction a node answered with this code."""
    return admitted
