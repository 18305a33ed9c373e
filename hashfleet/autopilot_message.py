"""Between `AutopilotRule` and `hashfleet.v1.AutopilotRule`: the one translation, for both ends of the wire.

Zero is "not said" in the message (proto/hashfleet/v1/autopilot_service.proto); here it becomes the default, so that
what is sent and told again is explicit.
"""

from __future__ import annotations

from hashfleet.action import Action
from hashfleet.autopilot_rule import PICKED_UP, AutopilotRule
from hashfleet.errors import InvalidInput
from hashfleet.job_spec import mode_of, priority_of, start_mode_of
from hashfleet.rpc.hashfleet.v1 import autopilot_service_pb2, job_pb2

_ACTIONS = {job_pb2.Action.Value(f"ACTION_{action.name}"): action for action in Action}


def rule_of(message: autopilot_service_pb2.AutopilotRule) -> AutopilotRule:
    """The checked rule of a message. Raises InvalidInput."""
    return AutopilotRule(
        player_id=message.player_id,
        actions=frozenset(map(action_named, message.actions)) or PICKED_UP,
        priority=priority_of(message.priority),
        start_mode=start_mode_of(message.start_mode),
        mode=mode_of(message.mode),
        weight=message.weight or 1,
        max_jobs=message.max_jobs or None,
        enabled=message.enabled if message.HasField("enabled") else True,
    )


def rule_message(rule: AutopilotRule) -> autopilot_service_pb2.AutopilotRule:
    """The message of a rule; `rule_of` gives the same rule again."""
    return autopilot_service_pb2.AutopilotRule(
        player_id=rule.player_id,
        actions=[action_message(action) for action in Action if action in rule.actions],
        priority=job_pb2.Priority.Value(f"PRIORITY_{rule.priority.name}"),
        start_mode=job_pb2.StartMode.Value(f"START_MODE_{rule.start_mode.name}"),
        mode=job_pb2.Mode.Value(f"MODE_{rule.mode.name}"),
        weight=rule.weight,
        max_jobs=rule.max_jobs or 0,
        enabled=rule.enabled,
    )


def action_message(action: Action) -> job_pb2.Action.ValueType:
    """The wire's number of an action."""
    return job_pb2.Action.Value(f"ACTION_{action.name}")


def action_named(number: job_pb2.Action.ValueType) -> Action:
    """The action of a number of the wire. Raises InvalidInput for one without a name here."""
    if number not in _ACTIONS:
        raise InvalidInput(f"action {number} is unknown; it should be build, mine, refine or raid")
    return _ACTIONS[number]
