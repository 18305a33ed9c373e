"""The transaction of a charter: the message that founds a guild, and what it pays.

It is the one message here that is not free: the fee is its gas limit times a gas price, of which nodes ask at least
their minimum (0ualpha unless an operator set another). So it stands in a transaction of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from hashfleet.action import Work
from hashfleet.charter import Founding
from hashfleet.errors import InvalidInput
from hashfleet.proof import Proof
from hashfleet.rpc.structs.structs.tx_pb2 import MsgGuildCreate

#: Gas that a founding may use unless told otherwise; what it needs exactly is not known.
DEFAULT_GAS_LIMIT: Final = 500_000
#: No block of a usual chain holds more; the bound only keeps a slip of the finger from costing a fortune.
MAX_GAS_LIMIT: Final = 100_000_000
#: A decimal amount and a denomination, as the SDK writes them.
_GAS_PRICE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)([a-zA-Z][a-zA-Z0-9/:._-]{2,127})", re.ASCII)


@dataclass(frozen=True, slots=True)
class GasPrice:
    """What a transaction that is not free pays. Checked when made."""

    #: Price of one unit of gas, in `denom`.
    amount: Decimal = Decimal(0)
    denom: str = "ualpha"
    #: Gas that the transaction may use; all of it is paid for.
    gas_limit: int = DEFAULT_GAS_LIMIT

    def __post_init__(self) -> None:
        if not 1 <= self.gas_limit <= MAX_GAS_LIMIT:
            raise InvalidInput(f"the gas limit is {self.gas_limit}; it should be 1 to {MAX_GAS_LIMIT}")
        if self.amount < 0:
            raise InvalidInput(f"the gas price is {self.amount}{self.denom}; it should be 0 or more")

    @property
    def fee(self) -> tuple[tuple[str, int], ...]:
        """The coins to pay, (denomination, amount), rounded up as nodes do; none for a price of 0."""
        amount = int((self.amount * self.gas_limit).to_integral_value(ROUND_CEILING))
        return ((self.denom, amount),) if amount else ()


def parse_gas_price(text: str, gas_limit: int = DEFAULT_GAS_LIMIT) -> GasPrice:
    """Read a price such as ``0.01ualpha``. Raises InvalidInput."""
    found = _GAS_PRICE.fullmatch(text)
    if not found:
        raise InvalidInput(f"the gas price is {text[:80]!a}; it should be an amount and a denomination: 0.01ualpha")
    return GasPrice(Decimal(found[1]), found[2], gas_limit)


def founding_message(work: Work, proof: Proof, creator: str, founding: Founding | None) -> MsgGuildCreate:
    """The message that founds a guild; `creator` is the address of the signing key.

    Founder and consent are left out where the solver founds the guild, as the chain expects. Raises InvalidInput if
    `work` is no charter, or if the founding or a consent that it needs is missing.
    """
    if work.charter is None:
        raise InvalidInput(f"{work.action.value} {work.object_id} founds no guild")
    if founding is None:
        raise InvalidInput(f"how player {work.object_id} wants to found the guild is not known; the job should say it")
    message = MsgGuildCreate(
        creator=creator,
        reactorId=founding.reactor_id,
        endpoint=founding.endpoint,
        entrySubstationId=founding.entry_substation_id,
        proof=proof.hash,
        nonce=proof.nonce,
    )
    if work.object_id == work.charter.solver_id:
        return message
    if founding.consent is None:
        raise InvalidInput(
            f"player {work.charter.solver_id} solves the charter of player {work.object_id}, whose consent is missing"
        )
    message.founderPlayerId = work.object_id
    message.address = founding.consent.address
    message.proofPubKey = founding.consent.proof_pub_key
    message.proofSignature = founding.consent.proof_signature
    return message
