"""What both fault suites have in their catalogues: faults that are the chain's own, however a proof gets there."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from devnet.node import Devnet
from devnet.staging import Condition
from hashfleet.action import Action


@dataclass(kw_only=True)
class CommonScene:
    """What a fault may be ordered on."""

    devnet: Devnet
    random: random.Random
    #: Works that jobs ask for, by object.
    works: dict[str, Action]
    #: Objects that a fault took away, and whose clocks somebody else set.
    gone: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)

    def some(self) -> str:
        """One of the objects."""
        return self.random.choice(sorted(self.works))


def move_anchor(scene: CommonScene) -> Action | None:
    """Somebody else's move sets the clock of a work anew, a little later than it was; which kind, if it was set."""
    object_id = scene.some()
    action = scene.works[object_id]
    old = _anchor(scene.devnet, action, object_id)
    if not old or old >= scene.devnet.height - 20:  # it was completed a moment ago, and starts anew anyway
        return None
    scene.devnet.set_anchor(action, object_id, old + scene.random.randint(1, 8))
    scene.moved.add(object_id)
    return action


def _anchor(devnet: Devnet, action: Action, object_id: str) -> int:
    state = devnet.chain.state
    if action is Action.CHARTER:
        return state.charter.anchor
    if action is Action.RAID:
        return state.planets[state.fleets[object_id].location_id].block_start_raid
    struct = state.structs[object_id]
    home = state.planets.get(struct.location_id)
    clocks = home if state.rules.planet_clocks and home else struct
    match action:
        case Action.BUILD:
            return struct.block_start_build
        case Action.MINE:
            return clocks.block_start_ore_mine
        case _:
            return clocks.block_start_ore_refine


def destroy_struct(scene: CommonScene) -> None:
    """One of the structs is gone, if there are any among the works."""
    structs = sorted(work for work, action in scene.works.items() if action not in (Action.RAID, Action.CHARTER))
    if not structs:
        return
    object_id = scene.random.choice(structs)
    with scene.devnet.edit() as stage:
        stage.set_condition(object_id, Condition.DESTROYED)
    scene.gone.add(object_id)


def tells_of_end(error: str) -> bool:
    """Whether this is how a job whose struct was destroyed may have failed."""
    return any(word in error for word in ("destroyed", "offline", "not set", "1250"))
