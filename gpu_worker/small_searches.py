"""Many small searches on a GPU: which pieces of which searches share a launch, and what its hits say of each.

A kernel whose threads own lanes does not mind whose lanes these are, for all threads go through the same tails. So
pieces may share a launch that have one kernel, one table (messages of one length) and the same tails::

    launch      | search 0 | search 1 | search 2 | .. | search 499 |    a piece of each, one lane or several
    tail 0000   ->  hash      hash       hash              hash
    tail 3999   ->   ..
                    what has no hit waits for the launch of the tails 4000 to 7999, together with others that come there
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gpu_worker.lanes import LaneProgram
from hashfleet.difficulty import expected_hashes
from hashfleet.engine import Found, Search

#: Lanes of small searches in one launch: 1.6 MB of parameters.
MOST_COLUMNS = 2**14


@dataclass(slots=True)
class Small:
    """One of many searches, and how far it is."""

    index: int
    search: Search
    program: LaneProgram
    #: Nonces to hash in one launch.
    size: int
    #: Everything before this counter is searched.
    at: int

    @property
    def end(self) -> int:
        return self.search.start + self.search.count

    def next_piece(self) -> Piece:
        tails = len(self.program.table)
        lane, tail = divmod(self.at, tails)
        if tail or self.size < tails:
            return Piece(self, lane, 1, tail, min(tail + self.size, tails))
        return Piece(self, lane, -(-min(self.size, self.end - self.at) // tails), 0, tails)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a launch hashes of a search: some tails of one lane, or whole lanes."""

    small: Small
    first_lane: int
    lanes: int
    first_tail: int
    end_tail: int

    @property
    def together(self) -> tuple[object, ...]:
        """Pieces for which this is the same may share a launch."""
        return (*self.small.program.table_key, self.first_tail, self.end_tail)

    @property
    def hashes(self) -> int:
        return self.lanes * (self.end_tail - self.first_tail)

    @property
    def expected_hits(self) -> float:
        return self.hashes / expected_hashes(self.small.search.zeros)


class Waiting:
    """The next pieces of the searches that are not over and not on the device."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[object, ...], deque[Piece]] = {}

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, small: Small) -> None:
        piece = small.next_piece()
        self._pieces.setdefault(piece.together, deque()).append(piece)

    def next_kernel(self) -> str:
        """The kernel of the pieces that `take` would take."""
        return self._pieces[self._next_kind()][0].small.program.kernel

    def take(self, most: int, most_hashes: int, most_hits: float) -> list[Piece]:
        """Pieces that share a launch, of the kind of which most wait: at least one, at most `most`, and no more than
        make so many hashes and are expected to have so many hits."""
        kind = self._next_kind()
        queue = self._pieces[kind]
        pieces: list[Piece] = []
        lanes, hashes, hits = 0, 0, 0.0
        while queue and len(pieces) < most:
            lanes, hashes, hits = lanes + queue[0].lanes, hashes + queue[0].hashes, hits + queue[0].expected_hits
            if pieces and (lanes > MOST_COLUMNS or hashes > most_hashes or hits > most_hits):
                break
            pieces.append(queue.popleft())
        if not queue:
            del self._pieces[kind]
        return pieces

    def _next_kind(self) -> tuple[object, ...]:
        return max(self._pieces, key=lambda kind: len(self._pieces[kind]))


def told_apart(pieces: Sequence[Piece], hits: Sequence[int]) -> Iterator[tuple[Small, Found]]:
    """What a launch of these pieces found of each search, which is brought on by that."""
    at = base = 0
    for piece in pieces:
        small, tails = piece.small, len(piece.small.program.table)
        end = base + piece.lanes * tails
        first_hit = None
        while at < len(hits) and hits[at] < end:
            counter = piece.first_lane * tails + hits[at] - base
            if (
                first_hit is None
                and counter < small.end
                and small.program.is_hit(small.search.space, counter, small.search.zeros)
            ):
                first_hit = counter
            at += 1
        base = end
        searched = (piece.first_lane + piece.lanes - 1) * tails + piece.end_tail
        small.at = min(searched, small.end) if first_hit is None else first_hit + 1
        yield small, Found(small.index, small.at - small.search.start, first_hit)
