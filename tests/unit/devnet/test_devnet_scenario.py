"""Presets and scenario files, good and bad."""

from __future__ import annotations

import json

import pytest

from devnet.scenario import genesis, load
from hashfleet.difficulty import safe
from hashfleet.errors import InvalidInput

KEY = "structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"


def written(tmp_path, content):
    path = tmp_path / "scenario.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def player(**more):
    return {"id": "1-11", "address": KEY} | more


def test_the_demo_gives_the_public_test_key_work_of_every_kind(vectors):
    state, height = genesis(load("demo"))
    key = vectors["tx"]["key"]["address"]
    assert state.addresses[key].player_id == "1-11"
    mine = [s for s in state.structs.values() if s.owner == "1-11"]
    assert any(not s.built for s in mine)
    assert any(s.block_start_ore_mine for s in mine)
    assert any(s.block_start_ore_refine for s in mine)
    raided = state.planets[state.fleets["9-11"].location_id]
    assert raided.queue[0] == "9-11"
    assert raided.block_start_raid == height - 60


def test_most_of_the_demo_is_ripe_for_a_cpu_at_once_and_some_of_it_has_to_wait():
    state, height = genesis(load("demo"))
    asked = {}
    for struct in state.structs.values():
        kind = state.struct_types[struct.type]
        if struct.owner != "1-11":
            continue
        anchor, span = struct.block_start_build, kind.build_range
        if struct.built:
            anchor, span = (
                (struct.block_start_ore_mine, kind.mine_range)
                if kind.mine_range
                else (struct.block_start_ore_refine, kind.refine_range)
            )
        asked[struct.id] = safe(height + 1 - anchor, span)
    ripe = [zeros for zeros in asked.values() if 4 <= zeros <= 6]
    assert len(ripe) == 8
    assert asked["5-107"] == 7  # six zeros a dozen blocks later
    assert asked["5-110"] > 30


def test_an_empty_chain_has_only_the_struct_types():
    state, height = genesis(load("empty"))
    assert (state.players, state.structs, len(state.struct_types), height) == ({}, {}, 22, 100_000)


def test_a_file_places_clocks_by_age_or_by_anchor(tmp_path):
    structs = [
        {"id": "5-1", "type": 9, "owner": "1-11", "age": 10},
        {"id": "5-2", "type": 9, "owner": "1-11", "anchor": 30},
    ]
    path = written(tmp_path, {"start_height": 50, "players": [player()], "structs": structs})
    state, _ = genesis(load(path))
    assert [state.structs[name].block_start_build for name in ("5-1", "5-2")] == [40, 30]


def test_the_start_height_may_be_moved_and_ages_move_with_it(tmp_path):
    structs = [{"id": "5-1", "type": 9, "owner": "1-11", "age": 10}]
    path = written(tmp_path, {"start_height": 50, "players": [player()], "structs": structs})
    state, height = genesis(load(path), 1000)
    assert (height, state.structs["5-1"].block_start_build) == (1000, 990)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "JSON"),
        ([], "the file"),
        ({"heigth": 5}, "heigth"),
        ({"start_height": 0}, "start_height"),
        ({"players": [{"id": "1-11"}]}, "players.0.address"),
        ({"players": [player(ore="3")]}, "players.0.ore"),
        ({"players": [player(id="2-11")]}, "player id"),
        ({"players": [player(address="structs1nonsense")]}, "structs1nonsense"),
        ({"players": [player(), player(id="1-12", planet="2-12")]}, "1-12"),
        ({"structs": [{"id": "5-1", "type": 9, "owner": "1-11"}]}, "no player 1-11"),
        ({"players": [player()], "structs": [{"id": "5-1", "type": 99, "owner": "1-11"}]}, "type 99"),
        (
            {"players": [player()], "structs": [{"id": "5-1", "type": 9, "owner": "1-11", "condition": "x"}]},
            "condition",
        ),
        (
            {"players": [player()], "structs": [{"id": "5-1", "type": 9, "owner": "1-11", "age": 1, "anchor": 1}]},
            "both",
        ),
        ({"players": [player()], "structs": [{"id": "5-1", "type": 9, "owner": "1-11", "age": 9}]}, "start the chain"),
        ({"raids": [{"fleet": "9-1", "planet": "2-1"}]}, "9-1"),
        ({"grants": [{"owner": "1-1", "player": "1-2", "permissions": 1}]}, "no player 1-1"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_wrong_where(tmp_path, content, told):
    with pytest.raises(InvalidInput) as refused:
        genesis(load(written(tmp_path, content)))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused_and_the_presets_are_named(tmp_path):
    with pytest.raises(InvalidInput, match="demo or empty"):
        load(str(tmp_path / "none.json"))


def test_a_file_of_text_that_is_no_utf8_is_refused(tmp_path):
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput):
        load(str(tmp_path / "bad.json"))
