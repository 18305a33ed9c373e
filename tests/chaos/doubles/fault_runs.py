"""Runs of the fault suite: a fault, a step of the submission and a seed make one history of one coordinator.

``fault_runs.py FAULT STEP FIRST LAST`` runs the seeds from FIRST to LAST and prints a JSON line for each. With one seed
more (``fault_runs.py FAULT STEP SEED``) it prints what was logged, too: so a failing seed is run alone. Without
arguments it reads such lines from its input, for whoever wants many of them.

What a history is stands in `common_runs`. Here two to five works are asked for; a guild's charter may be one of them
where the chain has charters; there may be two nodes, and the fault at one of them. The coordinator is killed before or
after some write or broadcast. At the end the devnet's record of every transaction that it was ever offered is compared
with the ledger.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common_runs
from common_faults import tells_of_end
from common_house import opened_store
from common_runs import FRESH, GRANTER, HASH_BITS, KEYS, OWNER, START, STRANGER, WORKS, CommonRun, folder_in_memory
from fault_catalogue import FAULTS, Scene, Step, Way, drawn, way_of
from fault_house import House

from coordinator.core.job import Job, JobState
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.founding import parse_gas_price
from coordinator.submission.lane import Settings
from coordinator.submission.outcome import Claim, claim_of
from devnet.block import IncludedTx, TxResult
from devnet.chain import MempoolRefusal
from devnet.faults import Faults
from devnet.messages import GuildCreation, Message
from devnet.node import Devnet
from devnet.rules import VERSIONS
from devnet.staging import Stage
from devnet.transactions import Transaction, decode, tx_hash
from hashfleet.action import Action
from hashfleet.charter import Founding
from hashfleet.difficulty import first_age
from hashfleet.errors import BadChainAnswer
from hashfleet.job_request import JobRequest, StartMode

#: The second key's player, to whom all was granted.
DELEGATE = "1-9"
#: The puzzle of all charters: its range is the smallest, so that a puzzle that begins anew is ripe after 23 blocks.
CHARTER_RANGE = 25
FOUNDING = Founding("3-1", "guild.example")
#: What the node asks for a unit of a founding's gas, and what the account has: a hundred such fees.
GAS_PRICE, BALANCE = 0.01, 500_000


@dataclass
class Offer:
    """A transaction as it was offered to the node."""

    hash: str
    tx: Transaction
    #: Committed height, and committed sequence of its signer.
    height: int
    sequence: int
    admitted: bool


@dataclass
class Told(common_runs.Told):
    """What came of a run, and what was left to chance."""

    faults: tuple[str, ...] = ()
    way: str = ""
    version: str = ""
    works: list[str] = field(default_factory=list)


class Run(CommonRun):
    """One history."""

    MOST_FRESH_BLOCKS, MOST_LAST_BLOCKS = 90, 40
    told: Told
    scene: Scene
    house: House

    def __init__(self, fault_name: str, step: Step, seed: int) -> None:
        super().__init__(Told(fault_name, step.value, seed), step)
        self.told.faults = drawn(fault_name, self.random)
        self.faults = tuple(FAULTS[name] for name in self.told.faults)
        self._charter = any(fault.needs_charter for fault in self.faults)
        self.version = self.random.choice(
            [name for name in sorted(VERSIONS) if VERSIONS[name].charter or not self._charter]
        )
        self.way: Way = way_of(self.faults, self.random)
        self.told.way, self.told.version = self.way.value, self.version
        #: Of two nodes, which of them are reached over REST, and at which it goes wrong.
        self._by_rest = (self.random.random() < 0.3, self.random.random() < 0.3)
        self._at = self.random.choice((0, 0, 1))
        self._keys = KEYS[: self.random.randint(1, 2)]
        self._settings = Settings(
            batch=self.random.choice((1, 1, 4)),
            sends_per_block=self.random.choice((5, 5, 2)),
            gas_price=parse_gas_price(f"{GAS_PRICE}ualpha"),
        )
        self._draw_moments(40)
        self._ordering: asyncio.Future[None] | None = None
        self.offers: list[Offer] = []

    async def _play(self, database: Path) -> None:
        devnet = Devnet(
            scenario_name="empty",
            start_height=START,
            version=self.version,
            min_gas_price=GAS_PRICE,
            seed=self.told.seed,
        )
        if self.way is Way.TWO_NODES:
            devnet.add_node(self.told.seed)
        self._begin(devnet)
        self._watch(devnet)
        works = self._pose(devnet)
        addresses = tuple(key.address for key in self._keys)
        self.told.works = sorted(works)
        node = devnet.nodes[self._at if self.way is Way.TWO_NODES else 0]
        self.scene = Scene(
            devnet=devnet, node=node, random=self.random, works=works, addresses=addresses, rival=GRANTER
        )
        async with devnet, opened_store(database) as store:
            self.house = House(
                devnet,
                store,
                self._keys,
                self.way,
                self._by_rest,
                self._settings,
                self.clock,
                self._reached,
                self._salt,
            )
            jobs, attempts = await self._live()
            self.told.happened = self.told.ordered and any(
                not fault.counted or node.faults.happened[fault.counted] > 0 for fault in self.faults
            )
            self.told.wrong += [
                *self._wrong_with_jobs(jobs),
                *self._wrong_with_transactions(attempts),
                *self._wrong_with_ledger(jobs, attempts),
            ]

    # ---- the stage -----------------------------------------------------------------------------------------------

    def _pose(self, devnet: Devnet) -> dict[str, Action]:
        """Some works whose difficulty is low, or falls in a few blocks."""
        every = dict(WORKS)
        wanted = self.random.sample(list(every), self.random.randint(2, 5))
        if VERSIONS[self.version].charter and (self._charter or self.random.random() < 0.5):
            every[OWNER] = Action.CHARTER
            wanted[self.random.randrange(len(wanted))] = OWNER
        works = {object_id: every[object_id] for object_id in wanted}
        with devnet.edit() as stage:
            stage.add_player(OWNER, self._keys[0].address, ore=5)
            stage.add_player(GRANTER, STRANGER.address)
            if len(self._keys) > 1:
                stage.add_player(DELEGATE, self._keys[1].address, permissions=HASH_BITS)
                stage.grant(OWNER, DELEGATE, HASH_BITS)
                stage.grant(GRANTER, DELEGATE, HASH_BITS)
            stage.grant(GRANTER, OWNER, HASH_BITS)
            for object_id in wanted:
                self._stage(stage, object_id)
            stage.add_struct(FRESH, 9, OWNER, anchor=START - 300)
        return works

    def _stage(self, stage: Stage, object_id: str) -> None:
        if object_id != OWNER:
            super()._stage(stage, object_id)
            return
        stage.add_reactor(FOUNDING.reactor_id, GRANTER)
        stage.set_balance(self._keys[0].address, BALANCE)
        anchor = START - first_age(self.random.choice((1, 2, 3)), CHARTER_RANGE) - self.random.randint(0, 3)
        stage.set_charter(anchor=anchor, difficulty_range=CHARTER_RANGE)

    def _watch(self, devnet: Devnet) -> None:
        """Note every transaction that is offered, and be the first who hears of a block."""
        chain = devnet.chain
        broadcast = chain.broadcast

        def noted(raw: bytes, faults: Faults | None = None) -> tuple[str, TxResult]:
            tx = decode(raw, chain.state.rules)
            sequence = chain.state.accounts[tx.creators[0]].sequence
            offer = Offer(tx_hash(raw), tx, chain.height, sequence, admitted=False)
            self.offers.append(offer)
            try:
                answer = broadcast(raw, faults)
            except MempoolRefusal as error:
                offer.admitted = error.code == 19
                raise
            offer.admitted = answer[1].code == 0
            return answer

        chain.broadcast = noted  # type: ignore[method-assign]
        chain._listeners.insert(0, lambda block: self._committed(bool(block.txs)))

    # ---- its course ----------------------------------------------------------------------------------------------

    def _request(self, action: Action, object_id: str) -> JobRequest:
        mode = self.random.choice((StartMode.RACE, StartMode.BALANCED))
        founding = None
        if action is Action.CHARTER:  # to race for it would be to hash in vain for 23 blocks once it began anew
            mode, founding = StartMode.BALANCED, FOUNDING
        return JobRequest(
            action, object_id, OWNER, start_mode=mode, idempotency_key=f"once-{object_id}", founding=founding
        )

    async def _block(self) -> None:
        if self.devnet.chain.pending():
            await self._reached(Step.BEFORE_INCLUSION)
        self.devnet.chain.produce_block()
        await self.house.see(self.devnet.height)
        if self._ordering is not None:
            await self._ordering
        self._lift_in_time()

    def _around(self) -> list[str]:
        return [f"way {self.way.value}"]

    async def _start_anew(self, ended: BaseException) -> None:
        """A coordinator that finds another chain when it starts says so and ends; it is started again."""
        if not (self.told.ordered and any(fault.tells_other_chain for fault in self.faults)) or not _is_of(
            ended, BadChainAnswer
        ):
            await super()._start_anew(ended)
        await self._restart()
        self.house.failures.clear()

    async def _restart(self) -> None:
        if self._ordering is not None:
            await self._ordering
        await super()._restart()

    async def _reached(self, step: Step | None) -> None:
        """The submission reached a step (or a place where a crash would matter)."""
        if step is None:
            self._pass_crash()
        elif self._is_time(step):
            # Who ordered it may be killed before it is done.
            self._ordering = asyncio.ensure_future(self._order())
            await asyncio.shield(self._ordering)

    def _committed(self, with_transactions: bool) -> None:
        """A block is committed, and nobody was told yet."""
        if not with_transactions or not self._is_time(Step.BEFORE_SIGHT):
            return
        ordering = self._order()
        if any(fault.takes_a_while for fault in self.faults):
            self._ordering = asyncio.ensure_future(ordering)
            return
        try:  # before anybody is told
            ordering.send(None)
        except StopIteration:
            return
        raise AssertionError(f"{self.told.faults} take a while to order; the row should say so")

    async def _order(self) -> None:
        logging.getLogger(__name__).info("Ordering %s at height %d.", self.told.faults, self.scene.devnet.height)
        for fault in self.faults:
            if (take_back := await fault.order(self.scene)) is not None:
                self._take_back.append(take_back)
        self._over_at = self.scene.devnet.height + max(self.random.randint(*fault.lasts) for fault in self.faults)

    def _clear(self) -> None:
        self.scene.faults.clear()

    # ---- what must be true at the end ----------------------------------------------------------------------------

    def _wrong_with_jobs(self, jobs: list[Job]) -> Iterator[str]:
        """Every job completed, or failed because its object is gone."""
        executed = self._executed()
        for job in jobs:
            object_id = job.request.object_id
            by = executed.get(object_id, [])
            if job.state is JobState.COMPLETED:
                if job.transaction is None or [job.transaction.hash] != [each.hash for each in by]:
                    yield f"{object_id} is completed by {job.transaction}, but the chain executed {by}"
            elif by:
                yield f"{object_id} is {job.state.value} ({job.error}), but {by[0].hash} completed it"
            elif any(fault.takes_rights for fault in self.faults) and job.signer is None and _names_right(job.error):
                continue  # it was killed before it had read the work, and afterwards no key might sign for it
            elif object_id not in self.scene.gone or job.state is not JobState.FAILED:
                yield f"{object_id} is {job.state.value}: {job.error}"
            elif not job.error or not tells_of_end(job.error):
                yield f"{object_id} failed because it was destroyed, but told is: {job.error}"

    def _executed(self) -> dict[str, list[Transaction]]:
        """The transactions that succeeded, by object."""
        executed: dict[str, list[Transaction]] = {}
        for included in self.scene.devnet.transactions():
            if included.result.code == 0:
                tx = decode(included.raw, VERSIONS[self.version])
                for message in tx.messages:
                    executed.setdefault(self._object_of(message), []).append(tx)
        return executed

    def _object_of(self, message: Message) -> str:
        if isinstance(message, GuildCreation):
            return message.founder_id or self.scene.devnet.chain.state.addresses[message.creator].player_id
        return message.object_id

    def _wrong_with_transactions(self, attempts: list[Attempt]) -> Iterator[str]:
        """Nothing executed twice, and nothing offered for an anchor while something else may land for it."""
        for object_id, by in self._executed().items():
            if len(by) > 1:
                yield f"{object_id} was completed {len(by)} times, by {[tx.hash for tx in by]}"
        for offer in self.offers:
            if len(offer.tx.messages) > 1 and any(isinstance(each, GuildCreation) for each in offer.tx.messages):
                yield f"{offer.hash} founds a guild, and does something else"
        claims: dict[Claim, set[str | None]] = {}
        for row in attempts:
            claims.setdefault(claim_of(row.work), set()).add(row.tx_hash)
        delivered = {each.hash: each for each in self.scene.devnet.transactions()}
        for claim, hashes in claims.items():
            offers = [offer for offer in self.offers if offer.hash in hashes]
            for place, later in enumerate(offers):
                for earlier in offers[:place]:
                    if earlier.admitted and earlier.hash != later.hash and not _is_over(earlier, later, delivered):
                        yield (
                            f"at height {later.height} {later.hash[:8]} was offered for {claim}, "
                            f"while {earlier.hash[:8]} (until {earlier.tx.timeout_height}) might land"
                        )

    def _wrong_with_ledger(self, jobs: list[Job], attempts: list[Attempt]) -> Iterator[str]:
        """The ledger says what the chain says."""
        delivered = {each.hash: each for each in self.scene.devnet.transactions()}
        rows: dict[str, list[Attempt]] = {}
        for row in attempts:
            if row.state.live:
                yield f"row {row.ledger_id} is still {row.state.value}"
            if row.tx_hash is not None:
                rows.setdefault(row.tx_hash, []).append(row)
        for offer in self.offers:
            if offer.hash not in rows:
                yield f"transaction {offer.hash} was offered and is in no row"
        for tx_hash_, same in rows.items():
            landed = delivered.get(tx_hash_)
            # Signed again at one height with one sequence (after a refusal and a crash) the bytes are the same.
            told = {(row.state, row.height, row.code) for row in same}
            if landed is not None and landed.result.code == 0:
                if (AttemptState.INCLUDED, landed.height, 0) not in told:
                    yield f"row {same[0].ledger_id} is {told}, but block {landed.height} holds its transaction"
            elif any(row.state is AttemptState.INCLUDED for row in same):
                yield f"row {same[0].ledger_id} is included, but no block holds its transaction"
        for tx_hash_ in delivered:
            if tx_hash_ not in rows:
                yield f"block {delivered[tx_hash_].height} holds {tx_hash_}, which is in no row"


def _is_over(earlier: Offer, later: Offer, delivered: dict[str, IncludedTx]) -> bool:
    """Whether the earlier transaction could not land any more when the later one was offered."""
    landed = delivered.get(earlier.hash)
    if landed is not None and landed.height <= later.height and landed.result.code != 0:
        return True
    if later.height >= earlier.tx.timeout_height:
        return True
    return earlier.tx.creators == later.tx.creators and later.sequence > earlier.tx.signers[0].sequence


def _names_right(error: str | None) -> bool:
    return error is not None and " lacks Perm" in error


def _is_of(error: BaseException, kind: type[Exception]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_is_of(each, kind) for each in error.exceptions)
    return isinstance(error, kind)


def _harmless(logger: str, traceback: str) -> bool:
    """gRPC's server logs one when a client does not wait for the answer, and its thread when a loop is closed."""
    return logger.startswith("grpc") or "Event loop is closed" in traceback


def main(arguments: list[str]) -> int:
    with folder_in_memory("hashfleet-faults-") as folder:

        def play_one(fault: str, step: str, seed: int) -> common_runs.Told:
            return common_runs.play(Run(fault, Step(step), seed), folder, _harmless)

        noisy = ("grpc", "alembic", "websockets", "httpcore2", "httpx2", "asyncio", "uvicorn")
        return common_runs.play_lines(arguments, play_one, noisy)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
