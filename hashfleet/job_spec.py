"""What a caller asks, between `JobRequest` and `hashfleet.v1.JobSpec`: the one translation, for both ends of the wire.

Zero is "not said" in the message (proto/hashfleet/v1/job.proto); here it becomes the default, so that what is sent and
told again is explicit.
"""

from __future__ import annotations

from hashfleet.action import Action
from hashfleet.charter import Consent, Founding
from hashfleet.errors import InvalidInput
from hashfleet.job_request import JobRequest, Mode, Priority, StartMode
from hashfleet.proof import MAX_NONCE_DIGITS
from hashfleet.rpc.hashfleet.v1 import job_pb2

_ACTIONS = {job_pb2.Action.Value(f"ACTION_{action.name}"): action for action in Action}
_PRIORITIES = {job_pb2.Priority.Value(f"PRIORITY_{priority.name}"): priority for priority in Priority}
_PRIORITIES[job_pb2.PRIORITY_UNSPECIFIED] = Priority.INTERACTIVE
_START_MODES = {job_pb2.StartMode.Value(f"START_MODE_{mode.name}"): mode for mode in StartMode}
_START_MODES[job_pb2.START_MODE_UNSPECIFIED] = StartMode.BALANCED
_MODES = {job_pb2.Mode.Value(f"MODE_{mode.name}"): mode for mode in Mode}
_MODES[job_pb2.MODE_UNSPECIFIED] = Mode.SUBMIT


def request_of(spec: job_pb2.JobSpec) -> JobRequest:
    """The checked request of a spec. Raises InvalidInput."""
    if spec.action not in _ACTIONS:
        raise InvalidInput("action is missing; it should be build, mine, refine, raid or charter")
    return JobRequest(
        action=_ACTIONS[spec.action],
        object_id=spec.entity_id,
        player_id=spec.player_id,
        target_id=spec.target_id or None,
        anchor_hint=spec.anchor if spec.HasField("anchor") else None,
        range_hint=spec.range if spec.HasField("range") else None,
        max_hashes=spec.max_hashes or None,
        priority=priority_of(spec.priority),
        max_nonce_digits=spec.max_nonce_digits or MAX_NONCE_DIGITS,
        mode=mode_of(spec.mode),
        start_mode=start_mode_of(spec.start_mode),
        start_difficulty=spec.start_difficulty or None,
        deadline_height=spec.deadline_height or None,
        weight=spec.weight or 1,
        idempotency_key=spec.idempotency_key or None,
        founding=_founding_of(spec.founding) if spec.HasField("founding") else None,
    )


def spec_of(request: JobRequest) -> job_pb2.JobSpec:
    """The spec of a request; `request_of` gives the same request again."""
    return job_pb2.JobSpec(
        action=job_pb2.Action.Value(f"ACTION_{request.action.name}"),
        entity_id=request.object_id,
        player_id=request.player_id,
        target_id=request.target_id or "",
        anchor=request.anchor_hint,
        range=request.range_hint,
        max_hashes=request.max_hashes or 0,
        priority=job_pb2.Priority.Value(f"PRIORITY_{request.priority.name}"),
        max_nonce_digits=request.max_nonce_digits,
        start_mode=job_pb2.StartMode.Value(f"START_MODE_{request.start_mode.name}"),
        mode=job_pb2.Mode.Value(f"MODE_{request.mode.name}"),
        start_difficulty=request.start_difficulty or 0,
        deadline_height=request.deadline_height or 0,
        weight=request.weight,
        idempotency_key=request.idempotency_key or "",
        founding=None if request.founding is None else _founding_message(request.founding),
    )


def _founding_of(message: job_pb2.Founding) -> Founding:
    consent = None
    if message.HasField("consent"):
        told = message.consent
        consent = Consent(told.address, told.proof_pub_key, told.proof_signature)
    return Founding(message.reactor_id, message.endpoint, message.entry_substation_id, consent)


def _founding_message(founding: Founding) -> job_pb2.Founding:
    consent = founding.consent
    return job_pb2.Founding(
        reactor_id=founding.reactor_id,
        endpoint=founding.endpoint,
        entry_substation_id=founding.entry_substation_id,
        consent=None
        if consent is None
        else job_pb2.Consent(
            address=consent.address, proof_pub_key=consent.proof_pub_key, proof_signature=consent.proof_signature
        ),
    )


def priority_of(value: job_pb2.Priority.ValueType) -> Priority:
    """Raises InvalidInput for a number without a name here."""
    if value not in _PRIORITIES:
        raise InvalidInput(f"priority {value} is unknown; it should be critical, interactive or bulk")
    return _PRIORITIES[value]


def start_mode_of(value: job_pb2.StartMode.ValueType) -> StartMode:
    """Raises InvalidInput for a number without a name here."""
    if value not in _START_MODES:
        raise InvalidInput(f"start_mode {value} is unknown; it should be economy, balanced or race")
    return _START_MODES[value]


def mode_of(value: job_pb2.Mode.ValueType) -> Mode:
    """Raises InvalidInput for a number without a name here."""
    if value not in _MODES:
        raise InvalidInput(f"mode {value} is unknown; it should be submit or return_proof")
    return _MODES[value]
