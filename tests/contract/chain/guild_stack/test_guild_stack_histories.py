"""Random lives of an outbox: whatever agent, node and coordinator do, one transaction for one puzzle."""

from __future__ import annotations

import random
from typing import Any

import pytest

from coordinator.chain.guild_stack.outbox import Outbox
from coordinator.submission.guild_stack import SILENT_SECONDS
from hashfleet.action import Action
from hashfleet.errors import ChainUnavailable


@pytest.mark.parametrize("seed", range(12))
async def test_at_most_one_row_may_land_at_any_time_and_the_job_ends_with_it(
    desk_with_node: Any, agent: Any, node: Any, stack: Any, monkeypatch: Any, seed: int, admit: Any
) -> None:
    desk, dice = desk_with_node, random.Random(seed)
    submission = await desk.submission(Action.MINE, "5-14")
    outbox, put = Outbox(desk.chain.database), Outbox.put

    async def put_unreliably(self: Outbox, *arguments: Any) -> Any:
        if dice.random() < 0.3:
            raise ChainUnavailable("the connection was lost before")
        row = await put(self, *arguments)
        if dice.random() < 0.3:
            raise ChainUnavailable("the connection was lost behind")
        return row

    monkeypatch.setattr(Outbox, "put", put_unreliably)
    desk.submitter.submit(submission)
    done: set[str] = set()  # what failed in a block can land no more
    for _ in range(150):
        await desk.block()
        if "Included" in desk.kinds() or "GaveUp" in desk.kinds():
            break
        alive = [row for row in await outbox.find(submission.work) if row.may_land and f"{row.id:064X}" not in done]
        assert len(alive) <= 1
        match dice.randrange(7):
            case 0:
                agent.step(lambda row: "")
            case 1:
                agent.step(lambda row: admit(row, 20, "sdk", "mempool is full"))
            case 2 if (row := agent.step()) is not None:
                node.include(row["txhash"], desk.height + 1, 2031, "structs-ante", "had its attempt")
                done.add(row["txhash"])
            case 3 if (row := agent.step()) is not None:
                node.include(row["txhash"], desk.height + 1)
                stack.set_planet("12-2-9", desk.height + 1)
            case 4:
                stack.let_pass(SILENT_SECONDS / 2)
            case 5:
                desk.new()
                await desk.submitter.recover()
                desk.submitter.submit(submission)
            case _:
                node.down = not node.down
        node.down = node.down and dice.random() < 0.8
    kinds = desk.kinds()
    assert kinds[-1] in ("Included", "GaveUp"), kinds[-5:]
    landed = [answer for answer in node.transactions.values() if answer.code == 0]
    assert len(landed) == (kinds[-1] == "Included")
