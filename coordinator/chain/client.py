"""What the coordinator asks of a chain. The structsd client implements it; it cannot tell a devnet from a real node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from coordinator.chain.endpoint_choice import EndpointStatus
from hashfleet.action import Action, Work


@dataclass(frozen=True, slots=True)
class Block:
    """A committed block."""

    height: int
    #: Header time, Unix seconds.
    time: float
    #: Ids of the objects that the chain's events say changed since the block that was reported before this one (and
    #: ``1-7@`` where permissions on 1-7 did); None if that is not known, so that any may have changed.
    touched: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class WorkReading:
    """A puzzle as committed, and what it hangs on."""

    work: Work
    #: What a block has to touch (`Block.touched`) to move, end or pause the work: its struct or fleet, the planet, the
    #: player whose ore it takes or who defends; and ``1-7@``, the permissions on its owner. Not the owner as such:
    #: whatever a player does touches the player, and hardly any of it concerns this work.
    depends_on: frozenset[str]
    #: Name of the clock that a success resets, where several works share one ("2-9/MINE" from v0.21 on); else empty.
    clock: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """A signing account as committed."""

    address: str
    number: int
    sequence: int


@dataclass(frozen=True, slots=True)
class TxAnswer:
    """What a node or a block said about a transaction. code 0 is success."""

    tx_hash: str
    code: int
    codespace: str
    log: str
    #: Block of inclusion; None for the answer to a broadcast.
    height: int | None = None


@dataclass(frozen=True, slots=True)
class SigningRight:
    """The right of an address to hand in proofs for an object."""

    #: The player that the address is registered to.
    player_id: str
    #: The player whose permissions decide about the object.
    owner_id: str

    @property
    def owns(self) -> bool:
        """Whether it stems from owning the object, so that no other player can take it away."""
        return self.player_id == self.owner_id


class ChainClient(Protocol):
    """A node of the chain. Every call is time-limited and raises a ChainError if there is no usable answer."""

    @property
    def chain_id(self) -> str:
        """As the node told when connecting."""
        ...

    async def connect(self) -> None:
        """Reach a node and check that it serves the configured chain. Raises ChainUnavailable, BadChainAnswer."""
        ...

    async def latest_block(self) -> Block:
        """The last committed block."""
        ...

    def blocks(self) -> AsyncIterator[Block]:
        """Every new committed block as it is seen, heights rising (gaps may occur after a reconnect).

        Never ends and never raises while the client is open: it reconnects by itself, with backoff, and polls
        when no subscription can be had.
        """
        ...

    async def read_work(self, action: Action, object_id: str) -> WorkReading:
        """The puzzle of this object as committed. Raises WorkGone, WorkPaused, BadChainAnswer, ChainUnavailable, and
        InvalidInput for a charter: `read_charter` reads that.

        The target of a raid is where the fleet stands. A missing field is never a default: BadChainAnswer. WorkGone
        and WorkPaused carry in `depends_on` what had been read until then, so that a pause can be watched.
        """
        ...

    async def read_charter(self, founder_id: str, solver_id: str, reactor_id: str = "") -> WorkReading:
        """The puzzle of founding a guild for this player, solved under a key of that one. Raises as `read_work` does.

        WorkGone on a chain that founds no guilds by proof (before v0.21), and, as far as a node tells it, for a founder
        who owns a guild and for a reactor that is not there (empty if none is named). It is one puzzle for everybody:
        each guild that is founded voids it and touches `block_events.CHARTER`.
        """
        ...

    async def outstanding_work(self, player_id: str) -> list[tuple[Action, str]]:
        """What `read_work` would find open now for this player: builds, mines, refines, and the raid of the fleet.

        From one height, in the order in which the chain lists the structs, the raid last. Raises WorkGone if there is
        no such player, BadChainAnswer, ChainUnavailable.
        """
        ...

    async def check_signer(self, address: str, action: Action, object_id: str) -> SigningRight:
        """The right of an address to complete this work.

        Raises KeyProblem if the address is not registered or lacks the permission bit of this action, WorkGone if
        the object does not exist. Any player may solve a charter; its object is taken for the owner.
        """
        ...

    async def account(self, address: str) -> Account:
        """Account number and committed sequence. Raises KeyProblem if the account does not exist."""
        ...

    async def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        """Offer a transaction to a mempool (sync mode). An answer with another code than 0 is no exception."""
        ...

    async def find_transaction(self, tx_hash: str) -> TxAnswer | None:
        """The included transaction of this hash, or None if no block holds it."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class TellsEndpoints(Protocol):
    """A chain client over nodes whose health it knows."""

    def endpoints(self) -> list[EndpointStatus]:
        """Every endpoint as it stands now, in the order of the configuration."""
        ...
