"""The production chain client: one structsd node over gRPC or REST, with CometBFT's WebSocket for new blocks.

It holds no key and decides nothing about jobs: queries become `Work` in `object_state`, permissions are judged in
`permissions`, the wire is in the transports and the `block_feed`. What stands here is which queries make one reading,
and in which order.

A reading of several queries is taken again when a block came in between: the node tells with each answer the height
that it read (`HeightWitness`), and a node that does not tell is taken at its word.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, NoReturn, TypeVar

from coordinator.chain import object_state, queries
from coordinator.chain.block_events import CHARTER, permissions_on
from coordinator.chain.block_feed import BlockFeed
from coordinator.chain.client import Account, Block, SigningRight, TxAnswer, WorkReading
from coordinator.chain.grpc_transport import GrpcTransport
from coordinator.chain.node_facts import NodeFacts, Told, VersionWatch
from coordinator.chain.permissions import check_delegation, permission_id, signer_player
from coordinator.chain.rights import KnownRights
from coordinator.chain.transport import (
    AlreadyKnown,
    Answer,
    HeightWitness,
    Lagging,
    NotServed,
    OtherChain,
    Query,
    Request,
    Transport,
)
from coordinator.chain.versions import ChainRules
from hashfleet.action import MAX_HEIGHT, PLAYER_TYPE, REACTOR_TYPE, Action, CharterTerms, Work, check_object_id
from hashfleet.errors import (
    BadChainAnswer,
    ChainUnavailable,
    InvalidInput,
    KeyProblem,
    WorkGone,
    WorkPaused,
)
from hashfleet.rpc.cosmos.auth.v1beta1 import auth_pb2
from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2 as auth_query_pb2
from hashfleet.rpc.cosmos.base.abci.v1beta1 import abci_pb2
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2 as node_pb2
from hashfleet.rpc.cosmos.tx.v1beta1 import service_pb2
from hashfleet.rpc.structs.structs import query_pb2

logger = logging.getLogger(__name__)

#: Limit of every call, in seconds.
CALL_TIMEOUT: Final = 5.0
#: Pause between two polls while no subscription is to be had, in seconds.
POLL_SECONDS: Final = 1.0
#: A subscription that is silent for this long is checked against a poll, in seconds: two to three usual blocks.
SILENCE_SECONDS: Final = 15.0
#: What is said of a node that replays blocks of the past.
CATCHING_UP: Final = "is catching up with the chain; nothing is read from it until it has the newest block"
#: CometBFT's default limit of one transaction.
MAX_TX_BYTES: Final = 1_048_576

#: How often a reading is taken again because a block came in between; at 6 s a block once is rare.
_READINGS: Final = 3
_READ_AGAIN_SECONDS: Final = 0.05
#: A reading of several queries may take as long as this many of them at their limit.
QUERIES_LONG: Final = 2
#: Limit of finding a player's work, in seconds, and structs asked for at once meanwhile.
_OUTSTANDING_SECONDS: Final = 20.0
_STRUCTS_AT_ONCE: Final = 16
_MAX_LOG_CHARACTERS: Final = 4096
_TX_HASH: Final = re.compile(r"[0-9A-F]{64}", re.ASCII)
#: Codespace and code with which the SDK says that a transaction is in the mempool cache.
_SDK: Final = "sdk"
_IN_MEMPOOL_CACHE: Final = 19

#: The stored name of a planet's ore clock, and how the proto enum spells it; which one a node takes is found out.
_CLOCK_NAMES: Final = {
    Action.MINE: ("blockStartOreMine", "planetBlockStartOreMine"),
    Action.REFINE: ("blockStartOreRefine", "planetBlockStartOreRefine"),
}
_SHIELD_NAME: Final = "planetaryShield"
#: Any guild that is founded by a proof resets it, for everybody.
_CHARTER_CLOCK: Final = "CHARTER"

_T = TypeVar("_T")


class _Reading(HeightWitness):
    """One reading of several queries: the heights it was taken at, what it hangs on, and what is known already."""

    def __init__(self, newest: int) -> None:
        super().__init__()
        self._newest = newest
        self.depends_on: set[str] = set()
        #: Whose object it is; empty until that is read.
        self.owner = ""
        #: Answers that several works of one reading share, by id.
        self.planets: dict[str, object_state.PlanetState] = {}
        self.players: dict[str, object_state.PlayerState] = {}
        #: Ore clocks by planet, where planets have them.
        self.clocks: dict[tuple[str, Action], int] = {}

    @property
    def usable(self) -> bool:
        """False if answers are known to be of different heights, or older than the newest block."""
        return self.consistent and not self.before(self._newest)


class StructsdClient:
    """A `ChainClient` for one structsd node. Make one per node; many tasks may share it."""

    def __init__(
        self,
        node: str | Transport,
        rpc_url: str | None,
        expected_chain_id: str | None,
        *,
        tls: bool | None = None,
        root_certificates: bytes | None = None,
        call_timeout: float = CALL_TIMEOUT,
        poll_seconds: float = POLL_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        charters_name_chain: bool = True,
    ) -> None:
        """Nothing is connected yet. Raises InvalidInput for an address that cannot be one.

        `node` is a transport, or a gRPC address: ``host:9090``, or ``https://host:443`` for TLS (or set `tls`);
        `root_certificates` are PEM bytes if the system's are not the right ones. `rpc_url` is CometBFT's RPC
        (``http://host:26657``); without it new blocks are polled. `expected_chain_id` of None takes the chain that is
        there. `charters_name_chain` is which form of a charter's preimage the chain hashes; no query tells it.
        """
        check_seconds(call_timeout=call_timeout, poll=poll_seconds, silence=silence_seconds)
        self._transport: Transport = (
            GrpcTransport(node, tls=tls, timeout=call_timeout, root_certificates=root_certificates)
            if isinstance(node, str)
            else node
        )
        self._expected_chain_id = expected_chain_id
        self._charters_name_chain = charters_name_chain
        #: Limit in seconds of a reading, however many queries it takes.
        self._reading_limit = QUERIES_LONG * call_timeout
        self._feed = BlockFeed(
            [rpc_url] if rpc_url else [],
            self.latest_block,
            self._upgraded,
            call_timeout=call_timeout,
            poll_seconds=poll_seconds,
            silence_seconds=silence_seconds,
        )
        self._chain_id: str | None = None
        self._opened = self._closed = False
        #: Height of the newest block that was passed on; nothing older is read after it.
        self._newest = 0
        #: It told last that it replays blocks of the past.
        self._catching_up = False
        #: Highest height that the node told when it was asked for its height alone.
        self._reached = 0
        self._facts = NodeFacts(self._transport, self._node_info)
        self._watch = VersionWatch()
        #: (node version, action) -> the spelling of the ore clock that was found to be right.
        self._clock_names: dict[tuple[str, Action], str] = {}
        self._rights = KnownRights()

    # Connecting

    @property
    def shown(self) -> str:
        """How errors and the status name the node."""
        return self._transport.shown

    @property
    def version(self) -> str:
        """The node's version as it told last; empty before that."""
        return self._facts.version

    @property
    def catching_up(self) -> bool:
        """True if the node told last that it replays blocks of the past: nothing but its height is told from it."""
        return self._catching_up

    @property
    def chain_id(self) -> str:
        """As the node told when connecting. Raises ChainUnavailable before that."""
        if self._chain_id is None:
            raise ChainUnavailable(f"the node {self.shown} has not been reached yet; connect first")
        return self._chain_id

    async def connect(self) -> None:
        """Reach the node and check its chain id, and that of CometBFT's RPC. Raises ChainUnavailable, BadChainAnswer.

        An RPC that does not answer is no error: blocks are polled until it does.
        """
        if self._closed:
            raise ChainUnavailable("this chain client is closed; make a new one")
        self._transport.open()
        self._opened = True
        network = (await self._node_info()).default_node_info.network
        await self.note_progress()
        await self._feed.connect(network)
        self._chain_id = network

    async def close(self) -> None:
        """Close every connection; `blocks` ends."""
        self._closed = True
        await self._feed.close()
        await self._transport.close()

    # Blocks

    async def latest_block(self) -> Block:
        """The last committed block."""
        answer = await self._ask(queries.LATEST_BLOCK, node_pb2.GetLatestBlockRequest(), "the latest block")
        if not (answer.HasField("sdk_block") and answer.sdk_block.HasField("header")):
            raise BadChainAnswer("the answer about the latest block lacks its header")
        header = answer.sdk_block.header
        self._check_chain(header.chain_id, "the latest block")
        if not header.HasField("time"):
            raise BadChainAnswer("the header of the latest block lacks its time")
        return Block(_checked_height(header.height), header.time.seconds + header.time.nanos / 1e9)

    async def committed_height(self) -> int:
        """Height of the last committed block, by the cheapest query; it does not tell of which chain."""
        answer = await self._ask(queries.BLOCK_HEIGHT, query_pb2.QueryBlockHeight(), "the height")
        return _checked_height(answer.blockHeight)

    async def note_progress(self) -> None:
        """Ask whether the node is catching up, as one restored from a snapshot does for hours: see `catching_up`.

        A node that does not serve the question is taken for one that is not.
        """
        try:
            answer = await self._ask(queries.SYNCING, node_pb2.GetSyncingRequest(), "whether it is catching up")
        except NotServed:
            self._catching_up = False
        else:
            self._catching_up = answer.syncing

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """Every new committed block, heights rising; ends when the client is closed and raises nothing."""
        async with contextlib.aclosing(self._feed.blocks()) as blocks:
            async for block in blocks:
                self.block_passed(block)
                yield block

    async def look(self, height: int) -> Told:
        """Version and rules as the node tells them now that somebody saw this height.

        Raises ChainUnavailable, BadChainAnswer.
        """
        return await self._facts.look(height)

    async def _upgraded(self, height: int) -> bool:
        return await self._watch.upgraded({self.shown: self.look(height)})

    def expect(self, chain_id: str) -> None:
        """Take no other chain from now on; whatever the node said before is forgotten, so connect again."""
        self._expected_chain_id, self._chain_id = chain_id, None

    def block_passed(self, block: Block) -> None:
        """This block was passed on to whoever reads because of it: nothing older is told from now on."""
        self._newest = max(self._newest, block.height)
        self._rights.block_seen(block.touched)

    # Work

    async def read_work(self, action: Action, object_id: str) -> WorkReading:
        """The puzzle of this object as committed; see `object_state` for what can stand in its way.

        Raises InvalidInput for an id that cannot be one, WorkGone, WorkPaused, BadChainAnswer, ChainUnavailable.
        """
        check_object_id(object_id, action.object_type, "entity_id")
        if action is Action.CHARTER:
            raise InvalidInput("a charter's puzzle names its solver; read_charter reads it")
        read = self._read_raid if action is Action.RAID else self._read_struct_work

        async def read_noting_owner(reading: _Reading) -> WorkReading:
            told = await read(action, object_id, reading)
            if reading.usable:
                self._rights.note_owner(action, object_id, reading.owner, self._now())
            return told

        try:
            async with self._within(self._reading_limit, f"the work of {object_id}"):
                return await self._at_one_height(read_noting_owner, object_id)
        except ChainUnavailable as error:
            self._forget_facts(error)
            raise

    async def read_charter(self, founder_id: str, solver_id: str, reactor_id: str = "") -> WorkReading:
        """The puzzle of founding a guild; what of it is the founder's and the solver's is told by their ids alone.

        Raises InvalidInput for an id that cannot be one, WorkGone if the chain founds no guilds by proof, has no such
        founder or reactor, or the founder owns a guild, WorkPaused, BadChainAnswer, ChainUnavailable.
        """
        check_object_id(founder_id, PLAYER_TYPE, "entity_id")
        check_object_id(solver_id, PLAYER_TYPE, "the solver")
        if reactor_id:
            check_object_id(reactor_id, REACTOR_TYPE, "reactor_id")
        try:
            async with self._within(self._reading_limit, f"the charter of {founder_id}"):
                return await self._at_one_height(
                    lambda reading: self._read_charter(founder_id, solver_id, reactor_id, reading),
                    f"the charter of {founder_id}",
                )
        except ChainUnavailable as error:
            self._forget_facts(error)
            raise

    async def _read_charter(self, founder_id: str, solver_id: str, reactor_id: str, reading: _Reading) -> WorkReading:
        reading.depends_on.add(CHARTER)
        founder = await self._find_player(founder_id, reading)
        if founder is None:
            await self._raise_gone(f"player {founder_id}")
        version, rules = await self._rules_for(reading)
        if not rules.charter:
            raise WorkGone(
                f"the chain {self.chain_id} runs version {version[:40]!a}, which founds no guild by proof of work; "
                "that takes v0.21 or newer"
            )
        # What would only be told by a transaction that is paid for; a node that does not tell it leaves it to that.
        with contextlib.suppress(NotServed):
            await self._check_founder(founder, reading)
        with contextlib.suppress(NotServed):
            await self._check_reactor(reactor_id, reading)
        answer = await self._ask(queries.GUILD_CHARTER, query_pb2.QueryGuildCharter(), "the guild charter", reading)
        try:
            terms = CharterTerms(self.chain_id if self._charters_name_chain else None, solver_id)
        except InvalidInput as error:
            raise BadChainAnswer(f"no charter can name this chain: {error}") from error
        return WorkReading(
            object_state.charter_work(answer, founder_id, terms), frozenset(reading.depends_on), _CHARTER_CLOCK
        )

    async def _check_founder(self, founder: object_state.PlayerState, reading: _Reading) -> None:
        """Raise WorkGone if the guild that the founder belongs to is the founder's own: nobody founds a second one."""
        guild_id = founder.guild_id
        if not guild_id:
            return
        asked = query_pb2.QueryGetGuildRequest(id=guild_id)
        answer = await self._ask(queries.GUILD, asked, f"guild {guild_id[:40]}", reading)
        if object_state.guild_owner(answer, guild_id) == founder.id:
            raise WorkGone(f"player {founder.id} owns guild {guild_id} already; who owns a guild founds no other")

    async def _check_reactor(self, reactor_id: str, reading: _Reading) -> None:
        """Raise WorkGone if there is no such reactor; whether its validator is jailed is not told."""
        if not reactor_id:
            return
        asked = query_pb2.QueryGetReactorRequest(id=reactor_id)
        if await self._find(queries.REACTOR, asked, f"reactor {reactor_id}", reading) is None:
            await self._raise_gone(f"reactor {reactor_id}")

    async def _read_struct_work(self, action: Action, struct_id: str, reading: _Reading) -> WorkReading:
        reading.depends_on.add(struct_id)
        struct = await self._struct(struct_id, reading)
        if struct is None:
            await self._raise_gone(f"struct {struct_id}")
        reading.depends_on.add(permissions_on(struct.owner))
        work, clock = await self._posed_by_struct(action, struct, reading)
        reading.owner = struct.owner
        return WorkReading(work, frozenset(reading.depends_on), clock)

    async def _posed_by_struct(
        self, action: Action, struct: object_state.StructState, reading: _Reading
    ) -> tuple[Work, str]:
        """The work, and the name of its clock if it is shared. Raises WorkGone, WorkPaused."""
        if action is Action.BUILD:
            return object_state.build_work(struct, await self._facts.type_ranges(struct.type)), ""
        planet_id = object_state.ore_planet(action, struct)
        reading.depends_on.add(planet_id)
        ranges = await self._facts.type_ranges(struct.type)
        version, rules = await self._rules_for(reading)
        planet = await self._planet(planet_id, reading)
        if action is Action.MINE:
            ore = planet.ore
        else:
            reading.depends_on.add(struct.owner)
            owner = await self._find_player(struct.owner, reading)
            if owner is None:
                raise BadChainAnswer(f"the node does not find player {struct.owner}, who owns struct {struct.id}")
            ore = owner.ore
        if not rules.planet_clocks:
            anchor = struct.mine_anchor if action is Action.MINE else struct.refine_anchor
            return object_state.ore_work(action, struct, ranges, planet, ore, anchor, rules), ""
        anchor = await self._planet_clock(action, planet, version, reading)
        work = object_state.ore_work(action, struct, ranges, planet, ore, anchor, rules)
        return work, f"{planet_id}/{action.value}"

    async def _read_raid(self, action: Action, fleet_id: str, reading: _Reading) -> WorkReading:
        reading.depends_on.add(fleet_id)
        fleet = await self._fleet(fleet_id, reading)
        work = await self._posed_by_fleet(fleet, reading)
        reading.owner = fleet.owner
        return WorkReading(work, frozenset(reading.depends_on))

    async def _posed_by_fleet(self, fleet: object_state.FleetState, reading: _Reading) -> Work:
        # Where a fleet stands counts even if it cannot raid there yet: the planet's queue may move up.
        reading.depends_on |= {permissions_on(fleet.owner), *([fleet.planet_id] if fleet.planet_id else [])}
        planet = await self._planet(object_state.raid_planet(fleet), reading)
        if planet.owner:
            # Some versions stop the raid clock without an event, but not what makes the defender safe: a Command Ship
            # that goes online or a fleet that comes home touches its owner.
            reading.depends_on.add(planet.owner)
        _, rules = await self._rules_for(reading)
        return object_state.raid_work(fleet, planet, rules)

    async def outstanding_work(self, player_id: str) -> list[tuple[Action, str]]:
        """What `read_work` would find open now for this player, all of it from one height.

        Raises InvalidInput for an id that cannot be one, WorkGone if there is no such player, BadChainAnswer,
        ChainUnavailable.
        """
        check_object_id(player_id, PLAYER_TYPE, "player_id")
        async with self._within(_OUTSTANDING_SECONDS, f"the work of player {player_id}"):
            return await self._at_one_height(lambda reading: self._read_outstanding(player_id, reading), player_id)

    async def _read_outstanding(self, player_id: str, reading: _Reading) -> list[tuple[Action, str]]:
        player = await self._find_player(player_id, reading)
        if player is None:
            await self._raise_gone(f"player {player_id}")
        listed: list[str] = []
        fleet = None
        if player.planet_id is not None:
            listed += (await self._planet(player.planet_id, reading)).structs
        if player.fleet_id is not None:
            fleet = await self._fleet(player.fleet_id, reading)
            listed += fleet.structs
        open_now: list[tuple[Action, str]] = []
        for struct in await self._structs(object_state.check_structs(listed, player_id), reading):
            if struct.owner != player_id:
                continue
            for action in object_state.struct_actions(struct, await self._facts.type_ranges(struct.type)):
                with contextlib.suppress(WorkGone, WorkPaused):  # then it is not open now
                    await self._posed_by_struct(action, struct, reading)
                    open_now.append((action, struct.id))
        if fleet is not None:
            with contextlib.suppress(WorkGone, WorkPaused):
                await self._posed_by_fleet(fleet, reading)
                open_now.append((Action.RAID, fleet.id))
        return open_now

    @contextlib.asynccontextmanager
    async def _within(self, seconds: float, what: str) -> AsyncGenerator[None, None]:
        """The limit of a reading as a whole; each of its queries has one of its own."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise ChainUnavailable(f"the node {self.shown} does not tell {what} within {seconds:g} s") from error

    async def _at_one_height(self, read: Callable[[_Reading], Awaitable[_T]], what: str) -> _T:
        """Read until all answers of a reading stem from one height, at most `_READINGS` times.

        That height may not be below the newest block that was passed on: whoever reads because of that block would
        take the state before it for the one after it.
        """
        await self._check_caught_up()
        for attempt in range(_READINGS):
            if attempt:
                await asyncio.sleep(_READ_AGAIN_SECONDS)
            reading = _Reading(self._newest)
            try:
                result = await read(reading)
            except (WorkGone, WorkPaused) as error:
                if reading.usable:
                    error.depends_on = frozenset(reading.depends_on)
                    raise
            except OtherChain:
                raise  # its heights are none of ours
            except BadChainAnswer:
                if reading.usable:
                    raise
            else:
                if reading.usable:
                    return result
        raise Lagging(f"the node {self.shown} answers about {what} from changing or old heights; try again")

    async def _planet_clock(
        self, action: Action, planet: object_state.PlanetState, version: str, reading: _Reading
    ) -> int:
        """A planet's ore clock (v0.21 on), read by name because its field number in the planet answer is not known.

        The spelling is found out once per version, by `object_state.planet_clock`; the shield that it is compared
        with is read after the clocks again, so that a shield that just changed is not taken for a clock.
        """
        if (planet.id, action) in reading.clocks:
            return reading.clocks[planet.id, action]
        known = self._clock_names.get((version, action))
        if known is not None:
            clock = await self._planet_attribute(planet.id, known, reading)
            return reading.clocks.setdefault((planet.id, action), clock)
        answers = {name: await self._planet_attribute(planet.id, name, reading) for name in _CLOCK_NAMES[action]}
        shield = await self._planet_attribute(planet.id, _SHIELD_NAME, reading)
        if shield != planet.shield:
            raise Lagging(f"the shield of planet {planet.id} changed while it was read; try again")
        name, clock = object_state.planet_clock(planet.id, shield, answers)
        if self._clock_names.setdefault((version, action), name) == name:
            logger.info("The chain %s spells the %s clock of a planet %s.", version, action.value.lower(), name)
        return reading.clocks.setdefault((planet.id, action), clock)

    # Who may sign, and with which account

    async def check_signer(self, address: str, action: Action, object_id: str) -> SigningRight:
        """The right of an address to complete this work.

        Raises KeyProblem if the address is not registered or lacks the permission bit of this action, WorkGone if the
        object does not exist. A right that stems from a guild-rank rule only is not seen. What was found for another
        object of the same owner holds until a block touches it (`rights`).
        """
        check_object_id(object_id, action.object_type, "entity_id")
        async with self._within(self._reading_limit, f"who may sign for {object_id}"):
            return await self._signing_right(address, action, object_id)

    async def _signing_right(self, address: str, action: Action, object_id: str) -> SigningRight:
        await self._check_caught_up()
        if action is Action.CHARTER:
            return SigningRight(await self._registered_player(address, action), object_id)
        era = self._rights.era
        owner = self._rights.take_owner(action, object_id, self._now()) or await self._owner(action, object_id)
        player = self._rights.holder(address, owner, action, self._now())
        if player is None:
            player = await self._check_right(address, owner, action)
            self._rights.keep(address, owner, action, player, era, self._now())
        return SigningRight(player, owner)

    async def _check_right(self, address: str, owner: str, action: Action) -> str:
        """The player of the address, if the address may do this for the owner. Raises KeyProblem."""
        signer = await self._registered_player(address, action)
        if owner == signer:
            return signer
        asked = permission_id(owner, signer)
        witness = HeightWitness()
        record = await self._find(
            queries.PERMISSION, query_pb2.QueryGetPermissionRequest(permissionId=asked), f"permission {asked}", witness
        )
        self._check_told(witness)
        if record is None:
            await self._check_fresh()
        check_delegation(record, owner, signer, action)
        return signer

    async def _registered_player(self, address: str, action: Action) -> str:
        """The player of the address, if the address itself may do this. Raises KeyProblem."""
        asked = query_pb2.QueryGetAddressRequest(address=address)
        witness = HeightWitness()
        answer = await self._ask(queries.ADDRESS, asked, f"address {address}", witness)
        self._check_told(witness)
        return signer_player(answer, address, action)

    async def _owner(self, action: Action, object_id: str) -> str:
        """The player whose permissions decide about this object. Raises WorkGone if it does not exist."""
        if action is Action.RAID:
            return (await self._fleet(object_id, _Reading(0))).owner
        struct = await self._struct(object_id, _Reading(0))
        if struct is None:
            await self._raise_gone(f"struct {object_id}")
        return struct.owner

    async def account(self, address: str) -> Account:
        """Account number and committed sequence. Raises KeyProblem if the account does not exist."""
        await self._check_caught_up()
        witness = HeightWitness()
        answer = await self._find(
            queries.ACCOUNT, auth_query_pb2.QueryAccountRequest(address=address), f"account {address}", witness
        )
        self._check_told(witness)
        if answer is None:
            await self._check_fresh()
            raise KeyProblem(
                f"the account {address} does not exist on chain {self._chain_id}; "
                "it should have received something or been registered to a player"
            )
        if not answer.HasField("account") or not answer.account.Is(auth_pb2.BaseAccount.DESCRIPTOR):
            raise BadChainAnswer(
                f"the account {address} is of type {answer.account.type_url[:80]!a}; only a BaseAccount can sign here"
            )
        account = auth_pb2.BaseAccount()
        if not answer.account.Unpack(account) or account.address != address:
            raise BadChainAnswer(f"asked for account {address}, the chain answered with {account.address[:80]!a}")
        return Account(address, account.account_number, account.sequence)

    # Transactions

    async def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        """Offer a transaction to the node's mempool. After ChainUnavailable it may still have got there: find it."""
        if not 1 <= len(tx_bytes) <= MAX_TX_BYTES:
            raise InvalidInput(f"the transaction has {len(tx_bytes)} bytes; it should have 1 to {MAX_TX_BYTES}")
        tx_hash = hashlib.sha256(tx_bytes).hexdigest().upper()
        try:
            answer = await self._ask(
                queries.BROADCAST_TX,
                service_pb2.BroadcastTxRequest(tx_bytes=tx_bytes, mode=service_pb2.BROADCAST_MODE_SYNC),
                f"what becomes of transaction {tx_hash}",
            )
        except AlreadyKnown as error:
            return TxAnswer(tx_hash, _IN_MEMPOOL_CACHE, _SDK, str(error)[:_MAX_LOG_CHARACTERS])
        if not answer.HasField("tx_response"):
            raise BadChainAnswer(f"the answer to the broadcast of {tx_hash} is empty")
        return _tx_answer(answer.tx_response, tx_hash, height=None)

    async def find_transaction(self, tx_hash: str) -> TxAnswer | None:
        """The included transaction of this hash (64 uppercase hex digits), or None if no block holds it.

        Raises ChainUnavailable if the node has not reached the newest block that was passed on.
        """
        if not _TX_HASH.fullmatch(tx_hash):
            raise InvalidInput(f"the transaction hash is {tx_hash[:80]!a}; it should be 64 uppercase hex digits")
        await self._check_caught_up()
        # Asked before the transaction: a node that has the newest block only afterwards may have missed it.
        await self._check_fresh()
        answer = await self._find(queries.GET_TX, service_pb2.GetTxRequest(hash=tx_hash), f"transaction {tx_hash}")
        if answer is None:
            return None
        if not answer.HasField("tx_response"):
            raise BadChainAnswer(f"the answer about transaction {tx_hash} lacks the result")
        height = answer.tx_response.height
        if not 1 <= height <= MAX_HEIGHT:
            raise BadChainAnswer(f"transaction {tx_hash} is told to be in block {height}; it should be 1 or more")
        return _tx_answer(answer.tx_response, tx_hash, height)

    # Single queries

    async def _struct(self, struct_id: str, reading: _Reading) -> object_state.StructState | None:
        answer = await self._find(
            queries.STRUCT,
            query_pb2.QueryGetStructRequest(id=struct_id),
            f"struct {struct_id}",
            reading,
        )
        return None if answer is None else object_state.struct_state(answer, struct_id)

    async def _structs(self, struct_ids: list[str], reading: _Reading) -> list[object_state.StructState]:
        """Those of these structs that exist, in this order; a few queries at once, so that others get through."""
        found: list[object_state.StructState] = []
        for first in range(0, len(struct_ids), _STRUCTS_AT_ONCE):
            some = struct_ids[first : first + _STRUCTS_AT_ONCE]
            structs = await asyncio.gather(*(self._struct(struct_id, reading) for struct_id in some))
            found += (struct for struct in structs if struct is not None)
        return found

    async def _fleet(self, fleet_id: str, reading: _Reading) -> object_state.FleetState:
        answer = await self._find(
            queries.FLEET,
            query_pb2.QueryGetFleetRequest(id=fleet_id),
            f"fleet {fleet_id}",
            reading,
        )
        if answer is None:
            await self._raise_gone(f"fleet {fleet_id}")
        return object_state.fleet_state(answer, fleet_id)

    async def _planet(self, planet_id: str, reading: _Reading) -> object_state.PlanetState:
        if planet_id not in reading.planets:
            answer = await self._ask(
                queries.PLANET,
                query_pb2.QueryGetPlanetRequest(id=planet_id),
                f"planet {planet_id}",
                reading,
            )
            reading.planets[planet_id] = object_state.planet_state(answer, planet_id)
        return reading.planets[planet_id]

    async def _find_player(self, player_id: str, reading: _Reading) -> object_state.PlayerState | None:
        if player_id not in reading.players:
            answer = await self._find(
                queries.PLAYER,
                query_pb2.QueryGetPlayerRequest(id=player_id),
                f"player {player_id}",
                reading,
            )
            if answer is None:
                return None
            reading.players[player_id] = object_state.player_state(answer, player_id)
        return reading.players[player_id]

    async def _planet_attribute(self, planet_id: str, name: str, witness: HeightWitness) -> int:
        answer = await self._ask(
            queries.PLANET_ATTRIBUTE,
            query_pb2.QueryGetPlanetAttributeRequest(planetId=planet_id, attributeType=name),
            f"{name} of planet {planet_id}",
            witness,
        )
        return answer.attribute

    async def _node_info(self, witness: HeightWitness | None = None) -> node_pb2.GetNodeInfoResponse:
        """What the node says of itself; the node behind an address may have been swapped for one of another chain."""
        answer = await self._ask(queries.NODE_INFO, node_pb2.GetNodeInfoRequest(), "its chain and version", witness)
        if not answer.HasField("default_node_info"):
            raise BadChainAnswer(f"the node {self.shown} does not tell its network")
        network = answer.default_node_info.network
        if not network:
            raise BadChainAnswer(f"the node {self.shown} does not tell its chain id")
        self._check_chain(network, f"the node {self.shown}")
        return answer

    async def _raise_gone(self, what: str) -> NoReturn:
        """The node does not know an object: it is gone, unless the node has not read the newest blocks yet."""
        await self.note_progress()
        self._refuse_the_past()
        await self._check_fresh()
        raise WorkGone(f"{what} does not exist on chain {self._chain_id}")

    def _forget_facts(self, error: ChainUnavailable) -> None:
        """A node that was away may come back with another version."""
        if not isinstance(error, Lagging):
            self._facts.forget()

    async def _check_fresh(self) -> None:
        """Raise Lagging if the node has not reached the newest block that was passed on."""
        if self._reached >= self._newest:
            return
        self._reached = await self.committed_height()
        if self._reached < self._newest:
            raise Lagging(
                f"the node {self.shown} is at height {self._reached}, but block {self._newest} is committed; try again"
            )

    async def _check_caught_up(self) -> None:
        """Raise Lagging while the node is catching up; once it told that, it is asked again each time."""
        if self._catching_up:
            await self.note_progress()
            self._refuse_the_past()

    def _refuse_the_past(self) -> None:
        if self._catching_up:
            raise Lagging(f"the node {self.shown} {CATCHING_UP}")

    def _check_told(self, witness: HeightWitness) -> None:
        """Raise Lagging if an answer is known to be of before the newest block."""
        if witness.before(self._newest):
            raise Lagging(f"the node {self.shown} answers from before block {self._newest}; try again")

    # Small things

    async def _ask(
        self, query: Query[Request, Answer], request: Request, what: str, witness: HeightWitness | None = None
    ) -> Answer:
        """As `_find`; what is not found is a BadChainAnswer, because it should exist."""
        answer = await self._find(query, request, what, witness)
        if answer is None:
            raise BadChainAnswer(f"the node {self.shown} does not find {what}, which should exist")
        return answer

    async def _find(
        self, query: Query[Request, Answer], request: Request, what: str, witness: HeightWitness | None = None
    ) -> Answer | None:
        if not self._opened or self._closed:
            raise ChainUnavailable(f"there is no connection to the node {self.shown}; connect first")
        return await self._transport.find(query, request, what, witness)

    async def _rules_for(self, reading: _Reading) -> tuple[str, ChainRules]:
        """Version and rules for this reading; something of it must have been read already."""
        if reading.before(self._newest):
            self._facts.forget()  # it fell back, so it may be another node by now
        return await self._facts.rules(max(reading.highest, self._newest))

    def _check_chain(self, told: str, who: str) -> None:
        expected = self._chain_id or self._expected_chain_id
        if expected is not None and told != expected:
            raise OtherChain(f"{who} belongs to chain {told[:80]!a}, but {expected!a} is expected; check the address")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _checked_height(height: int) -> int:
    if not 1 <= height <= MAX_HEIGHT:
        raise BadChainAnswer(f"the latest block has height {height}; it should be 1 to {MAX_HEIGHT}")
    return height


def check_seconds(**seconds: float) -> None:
    """Raise InvalidInput for a time limit or pause of a chain client that makes no sense."""
    for name, value in seconds.items():
        if not 0 < value <= 600:
            raise InvalidInput(f"the chain client's {name} is {value}; it should be above 0 and at most 600 seconds")


def _tx_answer(response: abci_pb2.TxResponse, tx_hash: str, height: int | None) -> TxAnswer:
    if response.txhash.upper() != tx_hash:
        raise BadChainAnswer(f"asked about transaction {tx_hash}, the chain answered about {response.txhash[:80]!a}")
    return TxAnswer(tx_hash, response.code, response.codespace, response.raw_log[:_MAX_LOG_CHARACTERS], height)
