"""A coordinator with several keys, and one with none."""

from __future__ import annotations

from pathlib import Path

from coordinator.submission import keys

from .conftest import MNEMONIC, PLAYER_ADDRESS, House, Process


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


async def test_of_several_keys_the_one_that_may_signs(house: House, tmp_path: Path) -> None:
    paths = [tmp_path / "stranger", tmp_path / "player"]
    for path, text in zip(paths, ("22" * 32, MNEMONIC), strict=True):
        path.write_text(text)
        path.chmod(0o600)
    options = [word for path in paths for word in ("--key-file", str(path))]
    await another_coordinator(house, tmp_path / "several.log", *options, environment={})
    assert house.coordinator.announced["signers"] == [keys.from_hex("22" * 32).address, PLAYER_ADDRESS]
    await house.worker()
    async with house.agent("http") as agent:
        await agent.completed(await agent.start("struct_build_complete", "5-1"))
    assert [tx["code"] for tx in await house.transactions()] == [0]
