"""A coordinator with several keys, and one with none."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.submission import keys

from .conftest import PLAYER_ADDRESS, House, Process


async def another_coordinator(house: House, log: Path, *options: str, environment: dict[str, str]) -> None:
    """In place of the one that came with the house."""
    await house.coordinator.kill()
    house.coordinator = Process([*house.coordinator.arguments, *options], log, environment=environment)
    await house.coordinator.start()
    house.stack.push_async_callback(house.coordinator.kill)


async def test_without_a_key_proofs_are_returned_and_nothing_is_sent(house: House, tmp_path: Path) -> None:
    await another_coordinator(house, tmp_path / "watching.log", "--watch-only", environment={})
    assert house.coordinator.announced["signers"] == []
    await house.worker()
    async with house.agent("http") as agent:
        to_send = await agent.start("ore_miner_complete", "5-2")
        told = await agent.until(to_send, lambda status: "no key may sign" in str(status))
        assert told["status"] in ("queued", "waiting")
        await agent.completed(await agent.start("struct_build_complete", "5-1", mode="return_proof"))
        assert (await agent.status(to_send))["status"] == told["status"]
    assert await house.transactions() == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_of_several_keys_the_one_that_may_signs(house: House, tmp_path: Path, order: tuple[int, int]) -> None:
    paths = [tmp_path / "player", tmp_path / "stranger"]
    mnemonic = " ".join(["abandon"] * 11 + ["about"])
    for path, text in zip(paths, (mnemonic, "22" * 32), strict=True):
        path.write_text(text)
        path.chmod(0o600)
    options = [word for which in order for word in ("--key-file", str(paths[which]))]
    await another_coordinator(house, tmp_path / "several.log", *options, environment={})
    addresses = [PLAYER_ADDRESS, keys.from_hex("22" * 32).address]
    assert house.coordinator.announced["signers"] == [addresses[which] for which in order]
    await house.worker()
    async with house.agent("http") as agent:
        await agent.completed(await agent.start("struct_build_complete", "5-1"))
    assert [tx["code"] for tx in await house.transactions()] == [0]
