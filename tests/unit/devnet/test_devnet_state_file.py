"""A chain on disk and back."""

from __future__ import annotations

import pytest

from devnet import state_file
from devnet.chain import Chain
from hashfleet.action import Action
from hashfleet.errors import InvalidInput


def test_a_chain_comes_back_as_it_was_written(world, owner, tmp_path):
    world.stage(lambda stage: stage.add_struct("5-1", 14, "1-11", anchor=50_000))
    world.complete(Action.BUILD, "5-1", 50_000)
    path = tmp_path / "chain.json"
    state_file.write(path, world.chain)
    found = state_file.read(path)
    assert found.state == world.chain.state
    again = Chain(found.chain_id, found.state, found.blocks[-1].height, blocks=found.blocks)
    assert again.last_block == world.chain.last_block
    assert again.transactions() == world.chain.transactions()


def test_writing_replaces_the_file_as_a_whole(world, tmp_path):
    path = tmp_path / "chain.json"
    state_file.write(path, world.chain)
    world.chain.produce_block()
    state_file.write(path, world.chain)
    assert state_file.read(path).blocks[-1].height == 100_001
    assert [entry.name for entry in tmp_path.iterdir()] == ["chain.json"]


def test_no_file_is_a_new_chain(tmp_path):
    assert state_file.read(tmp_path / "chain.json") is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"format": 1}'])
def test_any_other_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "chain.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="not a state file"):
        state_file.read(path)
    assert path.read_bytes() == content
