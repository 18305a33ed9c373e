"""The guild stack's outbox ``signer.tx``: proofs put in, rows followed. The stack's agent signs and sends them.

Putting in is done once: under a lock for the command and object, that every hashfleet takes, the table is searched
for a row that carries a proof of the same puzzle before one is made, in one transaction with it. So after a lost
answer or a crash the row is found, or it was not made; a connection that is still about to make it holds the lock.

Nothing here changes a row: the agent, or an operator, does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coordinator.chain.client import TxAnswer
from coordinator.chain.guild_stack import queries
from coordinator.chain.guild_stack.agent_output import Unreadable, read_output
from coordinator.chain.guild_stack.database import Database
from coordinator.chain.guild_stack.tables import owner_of
from coordinator.chain.permissions import PERMISSION_BITS
from hashfleet.action import Action, Work
from hashfleet.errors import BadChainAnswer, KeyProblem
from hashfleet.proof import Proof, verify

#: Rows looked at for one object at most, newest first, and how far back in the table.
_MAX_ROWS: Final = 50
_LOOK_BACK: Final = 100_000

#: Action -> the command of structsd, and the function that makes its row.
COMMANDS: Final = {
    Action.BUILD: ("struct-build-complete", "tx_struct_build_complete"),
    Action.MINE: ("struct-ore-mine-complete", "tx_struct_ore_mine_complete"),
    Action.REFINE: ("struct-ore-refine-complete", "tx_struct_ore_refine_complete"),
    Action.RAID: ("planet-raid-complete", "tx_planet_raid_complete"),
}

_ROW: Final = """jsonb_build_object('id', t.id, 'status', t.status::text, 'output', left(t.output, 100000),
  'account_id', t.account_id, 'args', t.args, 'account_status', (SELECT a.status::text FROM signer.account a
    WHERE a.id = t.account_id), 'age', greatest(0, extract(epoch FROM clock_timestamp() - t.updated_at)),
  'since_made', greatest(0, extract(epoch FROM clock_timestamp() - t.created_at)))"""
_ROWS: Final = f"""SELECT jsonb_build_object('rows', (SELECT jsonb_agg({_ROW}) FROM signer.tx t
  WHERE t.id = ANY(%(ids)s::bigint[])))"""
_FOR_OBJECT: Final = f"""SELECT jsonb_build_object('rows', (SELECT jsonb_agg(r.one) FROM (
  SELECT {_ROW} AS one FROM signer.tx t
   WHERE t.id > (SELECT coalesce(max(id), 0) FROM signer.tx) - {_LOOK_BACK}
     AND t.command::text = %(command)s::text AND t.args->>0 = %(object)s::text
   ORDER BY t.id DESC LIMIT {_MAX_ROWS}) r))"""
_AFTER: Final = f"""SELECT jsonb_build_object('rows', (SELECT jsonb_agg(r.one) FROM (
  SELECT {_ROW} AS one FROM signer.tx t, signer.tx mine
   WHERE mine.id = %(id)s::bigint AND t.account_id = mine.account_id AND t.id <> mine.id
     AND t.status::text = 'broadcast' AND t.updated_at > mine.updated_at ORDER BY t.updated_at DESC LIMIT 10) r))"""
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%(lock)s::text, 0))"
_MADE: Final = "SELECT currval(pg_get_serial_sequence('signer.tx', 'id'))"

#: What a node answers that has the very same transaction already.
_KNOWN_ALREADY: Final = ("sdk", 19)

#: Every key of the agent that may do it, by itself or for the owner; and the keys that are still to be made.
_SIGNERS: Final = """WITH held AS (
  SELECT a.address, a.status::text AS status, p.player_id, p.val FROM signer.account a
    JOIN structs.permission p ON p.object_index = a.address WHERE p.val & %(bit)s::bigint = %(bit)s::bigint)
SELECT jsonb_build_object(
  'able', (SELECT jsonb_agg(jsonb_build_object('address', h.address, 'status', h.status)) FROM held h
    WHERE h.player_id = %(owner)s::text OR EXISTS (SELECT 1 FROM structs.permission d
      WHERE d.object_id = %(owner)s::text AND d.player_id = h.player_id AND d.val & %(bit)s::bigint = %(bit)s::bigint)),
  'coming', (SELECT count(*) FROM signer.account a JOIN signer.role r ON r.id = a.role_id
    WHERE r.player_id = %(owner)s::text AND a.status::text IN ('stub', 'generating', 'pending')),
  'roles', (SELECT count(*) FROM signer.role r WHERE r.player_id = %(owner)s::text AND r.status::text <> 'ready'))"""

#: What tells whether a proof has been taken, besides its transaction.
_TRACE: Final = """SELECT jsonb_build_object(
  'height', (SELECT max(height) FROM structs.current_block),
  'status', (SELECT val FROM structs.struct_attribute WHERE id = '1-' || %(object)s::text),
  'destroyed', (SELECT is_destroyed FROM structs.struct WHERE id = %(object)s::text),
  'build', (SELECT val FROM structs.struct_attribute WHERE id = '2-' || %(object)s::text),
  'on_struct', (SELECT val FROM structs.struct_attribute WHERE id = %(of_struct)s::text || '-' || %(object)s::text),
  'on_planet', (SELECT a.val FROM structs.planet_attribute a JOIN structs.struct s ON s.id = %(object)s::text
     AND s.location_type = 'planet' WHERE a.id = %(of_planet)s::text || '-' || s.location_id),
  'others', (SELECT count(*) FROM structs.struct o JOIN structs.struct s ON s.id = %(object)s::text
     AND o.location_type = 'planet' AND o.location_id = s.location_id AND o.id <> s.id AND o.type = s.type
     JOIN structs.struct_attribute a ON a.id = '1-' || o.id AND a.val & 4 > 0 WHERE o.is_destroyed IS NOT TRUE),
  'raid', (SELECT jsonb_build_object('fleet', r.fleet_id, 'status', r.status) FROM structs.planet_raid r
     WHERE r.planet_id = %(target)s::text),
  'fleet', (SELECT status FROM structs.fleet WHERE id = %(object)s::text),
  'raid_clock', (SELECT val FROM structs.planet_attribute WHERE id = '10-' || %(target)s::text))"""
_CLOCKS: Final = {Action.MINE: ("3", "12"), Action.REFINE: ("4", "13")}


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A row of ``signer.tx``."""

    id: int
    #: pending, claimed, broadcast or error.
    status: str
    output: str | None
    #: Account of the agent that signs it; None until one is claimed.
    account_id: int | None
    #: available, signing and so on; None without an account.
    account_status: str | None
    args: tuple[str, ...]
    #: Seconds since it was changed, and since it was made, by the database's clock.
    age: float
    since_made: float

    def proves(self, work: Work) -> bool:
        """Whether it carries a proof of this very puzzle."""
        if len(self.args) != 3 or self.args[0] != work.object_id:
            return False
        try:
            return verify(work.prefix, self.args[2]).hash == self.args[1]
        except ValueError:
            return False

    @property
    def may_land(self) -> bool:
        """Whether, by what it says of itself, its transaction may be in a block, get into one, or still be made."""
        if self.status in ("pending", "claimed"):
            return True
        if self.status != "broadcast":
            return False
        answer = read_output(self.output)
        if isinstance(answer, TxAnswer):
            return answer.code == 0 or (answer.codespace, answer.code) == _KNOWN_ALREADY
        return isinstance(answer, Unreadable)

    @property
    def is_silent(self) -> bool:
        """Whether the agent is done with it without a word about a transaction."""
        return self.status == "error" or (self.status == "broadcast" and read_output(self.output) is None)


@dataclass(frozen=True, slots=True)
class Trace:
    """What the tables show of a proof besides its transaction."""

    #: True: taken; False: not taken, and void; None: the puzzle is as it was.
    taken: bool | None
    #: Whether `taken` is beyond doubt; if not, why.
    sure: bool
    #: What was seen, in words.
    words: str
    #: Block in which it was taken, as far as a clock tells; None if it does not.
    height: int | None = None


class Outbox:
    """The outbox of one guild stack."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def owner(self, object_id: str) -> str:
        """The player who owns a struct or fleet, for whom its rows are made. Raises NotIndexed, ChainError."""
        told = await self._database.one(queries.OWNER, {"object": object_id}, f"the owner of {object_id}")
        return owner_of(told, object_id)

    async def put(self, work: Work, proof: Proof, ended: frozenset[int], settle_seconds: float) -> OutboxRow:
        """Make the row of a proof, or give the one that may still complete this puzzle. Raises ChainError, NotIndexed.

        A row for this puzzle that ended without a word is given as well while it is younger than `settle_seconds`:
        nothing is known of it yet. Rows in `ended` are known to have come to nothing. After an error the row may have
        been made: calling again, or `find`, tells.
        """
        command, function = COMMANDS[work.action]
        owner = await self.owner(work.object_id)
        what = f"to put in {command} {work.object_id}"
        values: dict[str, object] = {
            "lock": f"hashfleet/{command}/{work.object_id}",
            "command": command,
            "player": owner,
            "object": work.object_id,
            "proof": proof.hash,
            "nonce": proof.nonce,
        }
        async with self._database.connection(what) as connection, connection.transaction():
            await connection.execute(_LOCK.encode(), values)
            found = await (await connection.execute(_FOR_OBJECT.encode(), values)).fetchone()
            for row in _rows(found[0] if found else None):
                if (
                    row.id not in ended
                    and row.proves(work)
                    and (row.may_land or (row.is_silent and row.age < settle_seconds))
                ):
                    return row
            call = (
                f"SELECT signer.{function}(%(player)s::varchar, %(object)s::varchar, %(proof)s::varchar, "
                "%(nonce)s::varchar)"
            )
            await connection.execute(call.encode(), values)
            made = await (await connection.execute(_MADE.encode())).fetchone()
            assert made is not None
            read = await (await connection.execute(_ROWS.encode(), {"ids": [made[0]]})).fetchone()
            rows = _rows(read[0] if read else None)
            if len(rows) != 1 or rows[0].args != (work.object_id, proof.hash, proof.nonce):
                # Nothing of it is kept: the transaction ends with this error.
                raise BadChainAnswer(f"signer.{function} did not make the row that was asked for; nothing was put in")
            return rows[0]

    async def find(self, work: Work) -> list[OutboxRow]:
        """Rows that carry proofs of this puzzle, newest first. Raises ChainError."""
        command, _ = COMMANDS[work.action]
        told = await self._database.one(
            _FOR_OBJECT, {"command": command, "object": work.object_id}, f"the rows of {work.object_id}"
        )
        return [row for row in _rows(told) if row.proves(work)]

    async def rows(self, ids: list[int]) -> dict[int, OutboxRow]:
        """Rows by id; those that are gone are absent. Raises ChainError."""
        if not ids:
            return {}
        told = await self._database.one(_ROWS, {"ids": ids}, "rows of signer.tx")
        return {row.id: row for row in _rows(told)}

    async def sent_after(self, row_id: int) -> list[OutboxRow]:
        """Rows that the same account of the agent sent later, newest first. Raises ChainError."""
        return _rows(await self._database.one(_AFTER, {"id": row_id}, f"rows after row {row_id} of signer.tx"))

    async def check_signer(self, action: Action, object_id: str) -> str:
        """In words, which of the agent's accounts may sign; raises KeyProblem if none may.

        Raises NotIndexed, ChainUnavailable, and BadChainAnswer if the tables cannot be read.
        """
        bit, name = PERMISSION_BITS[action]
        owner = await self.owner(object_id)
        told = await self._database.one(_SIGNERS, {"owner": owner, "bit": bit}, "who may sign")
        able = told.get("able")
        accounts = [one for one in able if isinstance(one, dict)] if isinstance(able, list) else []
        usable = [str(one.get("address")) for one in accounts if one.get("status") in ("available", "signing")]
        if usable:
            return f"{usable[0]} may sign for player {owner}"
        if accounts:
            return f"the accounts that may sign for player {owner} are {accounts[0].get('status')}"
        if told.get("coming") or told.get("roles"):
            return f"an account for player {owner} is being made"
        raise KeyProblem(
            f"no account of the guild stack's signing agent has {name} ({bit}) on player {owner}, the owner of "
            f"{object_id}, so nobody would sign for it; register one of its addresses with that permission"
        )

    async def trace(self, work: Work) -> Trace:
        """What became of a puzzle that the agent had taken a row for, from the tables alone. Raises ChainError."""
        of_struct, of_planet = _CLOCKS.get(work.action, ("3", "12"))
        told = await self._database.one(
            _TRACE,
            {"object": work.object_id, "target": work.target_id, "of_struct": of_struct, "of_planet": of_planet},
            f"what became of {work.object_id}",
        )
        return read_trace(work, told)


def read_trace(work: Work, told: dict[str, object]) -> Trace:
    """See `Outbox.trace`. Pure.

    A clock that started anew is what a success leaves behind, but not only a success: a rig that went off and on again
    restarts its own, and a planet's clock is shared by its rigs and moved by a raid. What may have another reason is
    said not to be sure.
    """
    status, height = _number(told.get("status")), _number(told.get("height")) or None
    if work.action is Action.BUILD:
        if told.get("destroyed") is True or status & 32:
            return Trace(False, True, f"struct {work.object_id} is destroyed")
        if status & 2:
            return Trace(True, True, f"struct {work.object_id} has its built bit set", height)
        if _number(told.get("build")) != work.anchor:
            return Trace(False, True, f"the build clock of struct {work.object_id} is {_number(told.get('build'))}")
        return Trace(None, True, "the build goes on")
    if work.action is Action.RAID:
        raid = told.get("raid")
        if told.get("fleet") == "away" and _number(told.get("raid_clock")) == work.anchor:
            return Trace(None, True, "the raid goes on")
        if isinstance(raid, dict) and raid.get("fleet") == work.object_id and raid.get("status") == "raidSuccessful":
            return Trace(
                True, True, f"the raid of fleet {work.object_id} on {work.target_id} is raidSuccessful", height
            )
        return Trace(False, True, f"the raid of fleet {work.object_id} on {work.target_id} is over or its clock moved")
    on_planet, on_struct = _number(told.get("on_planet")), _number(told.get("on_struct"))
    now = on_planet or on_struct
    if told.get("destroyed") is True or status & 32:
        # A planet's clock goes on without the struct.
        return Trace(False, True, f"struct {work.object_id} is destroyed")
    if now == work.anchor:
        return Trace(None, True, "the clock runs on")
    if now < work.anchor:
        return Trace(False, True, f"the clock of {work.object_id} is {now}")
    words = f"the clock of {work.object_id} started anew at {now}"
    if on_planet and _number(told.get("others")):
        return Trace(False, False, f"{words}, which other rigs of the planet share", now)
    return Trace(True, True, words, now)


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _rows(told: object) -> list[OutboxRow]:
    rows = told.get("rows") if isinstance(told, dict) else None
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise BadChainAnswer("the guild stack's outbox gave no rows")
    return [_row(row) for row in rows]


def _row(row: object) -> OutboxRow:
    told = row if isinstance(row, dict) else {}
    number, status, age, made = told.get("id"), told.get("status"), told.get("age"), told.get("since_made")
    if not isinstance(number, int) or not isinstance(status, str):
        raise BadChainAnswer("a row of signer.tx has no id or no status")
    if not isinstance(age, int | float) or not isinstance(made, int | float):
        raise BadChainAnswer(f"row {number} of signer.tx does not tell when it was changed")
    output, account, args = told.get("output"), told.get("account_id"), told.get("args")
    account_status = told.get("account_status")
    return OutboxRow(
        number,
        status,
        output if isinstance(output, str) else None,
        account if isinstance(account, int) else None,
        account_status if isinstance(account_status, str) else None,
        tuple(str(one) for one in args) if isinstance(args, list) else (),
        float(age),
        float(made),
    )
