"""A chain on disk: one JSON file, replaced as a whole after each block.

The file holds the state and the last blocks with their transactions, so that a sender that was cut off still finds
what it sent. What was in the mempool is lost, as it is on a node. It outlives a killed process, not a power cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from devnet.block import Block
from devnet.chain import Chain
from devnet.state import State
from hashfleet.errors import InvalidInput

FORMAT = 2
#: Blocks written; enough for every timeout height and confirmation that a restart may interrupt.
BLOCKS_WRITTEN = 200


@dataclass(frozen=True)
class Snapshot:
    """What the file holds."""

    __pydantic_config__ = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", extra="forbid")

    format: int
    chain_id: str
    state: State
    blocks: tuple[Block, ...]


_SNAPSHOT = TypeAdapter(Snapshot)


def write(path: Path, chain: Chain) -> None:
    """Replace the file with the chain as it stands. Raises OSError."""
    snapshot = Snapshot(FORMAT, chain.chain_id, chain.state, chain.blocks()[-BLOCKS_WRITTEN:])
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(_SNAPSHOT.dump_json(snapshot))
    beside.replace(path)


def read(path: Path) -> Snapshot | None:
    """The chain that was written, or None if there is no file yet. Raises InvalidInput for any other file."""
    try:
        snapshot = _SNAPSHOT.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"cannot read the state file {str(path)!r}: {error.strerror or error}") from error
    except ValidationError as error:
        raise InvalidInput(
            f"{str(path)!r} is not a state file of this devnet; remove it to start a new chain, or name another"
        ) from error
    if snapshot.format != FORMAT or not snapshot.blocks:
        raise InvalidInput(f"{str(path)!r} has format {snapshot.format}; this devnet reads format {FORMAT}")
    return snapshot
