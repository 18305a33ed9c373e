"""A `Submitter` that puts proofs into a guild stack's outbox, whose agent signs and sends them.

The ledger in the store is the truth here as well. The claim is stored before a row is made (`prepared`), the row's
number as soon as it is known (`broadcast`), and from then on the row is followed, block after block::

    pending                     wait; say so if nobody claims it
    claimed                     wait; an agent that crashed leaves it so for ever, with or without having sent it
    broadcast, code 0           follow the transaction's hash on the node, or else the object in the tables
    broadcast, another code     a node refused it: decide by the code, as a lane does
    broadcast, no output        the agent's command failed and its reason is lost: once a while has passed and the
                                puzzle is still as it was, put it in again
    error, or row deleted       an operator ended it: the same

A second row is made only when the first cannot land any more: refused by code, failed in a block, silent for
`SILENT_SECONDS` while the object did not change, or overtaken: a later transaction of the same account is in a block
and ours is in none, so that its sequence is used. Everything else waits, and says for what.

Without a node a success is seen in the tables (the struct is built, its clock started anew, the raid is won), which
is said in the transaction's message; where the tables leave it open, the proof counts as void, never as taken.

The agent simulates on the last committed state, so a proof is put in a block later than a lane would send it.

As with a lane, all of it is one task, in modules that import downwards only::

    submitter           the loop: each block, follow what is in the outbox, then put in what is ready
    putting_in          the turn of a proof: check, take the claim, make the row or find it
    following           a row, until its transaction is in a block or can no longer get there
    aftermath           what becomes of a proof whose row came to its end
    puzzle              whether the puzzle still is the one that the proof is for
    ledger, telling     the rows in the store; what the coordinator is told
    proofs              the proofs on their way
"""

from coordinator.submission.guild_stack.putting_in import SILENT_SECONDS
from coordinator.submission.guild_stack.submitter import MAX_PENDING, GuildStackSubmitter

__all__ = ["MAX_PENDING", "SILENT_SECONDS", "GuildStackSubmitter"]
