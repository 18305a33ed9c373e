"""What a worker says to its coordinator, and what it does with each message: one conversation per connection.

Messages and reports go in, messages to send come out; devices are told what to do through the `Device` protocol. No
network, no thread, no clock: `session` carries the messages, `device_runner` is the device.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

from gpu_worker.bundles import unbundled
from gpu_worker.device_runner import HitFound, LeaseOver, Progress
from gpu_worker.lease import EndReason, Lease, read_lease
from hashfleet.batches import check_search
from hashfleet.engine import DeviceInfo
from hashfleet.errors import CoordinatorError, InvalidInput
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb
from hashfleet.version import __version__

logger = logging.getLogger(__name__)

#: Hits kept for re-sending until the coordinator answered them; beyond this the oldest are given up. A second's worth
#: of small leases, 500 bytes each.
MAX_UNANSWERED = 16_384
#: What a coordinator may ask for, in seconds; anything else is a fault of its own.
SHORTEST_INTERVAL, LONGEST_INTERVAL = 0.01, 3600.0
#: A worker with nothing to report speaks this often within the coordinator's silence limit.
HEARTBEATS_PER_SILENCE_LIMIT = 3
#: Names and sentences from the coordinator are cut to this before they are logged.
_SHOWN = 200

_END_REASONS = {
    EndReason.EXHAUSTED: pb.END_REASON_EXHAUSTED,
    EndReason.CANCELLED: pb.END_REASON_CANCELLED,
    EndReason.FAILED: pb.END_REASON_FAILED,
}
#: Verdicts that are a matter of timing; every other rejection says that worker and coordinator hash differently.
_HARMLESS = (pb.REJECT_REASON_STALE, pb.REJECT_REASON_DUPLICATE, pb.REJECT_REASON_UNKNOWN_JOB)


class Device(Protocol):
    """What a conversation needs of a device; `DeviceRunner` is one."""

    @property
    def device(self) -> DeviceInfo: ...

    @property
    def rate(self) -> float: ...

    def offer(self, lease: Lease) -> None: ...

    def cancel(self, lease_id: str) -> None: ...

    def cancel_all(self) -> None: ...

    def retarget(self, lease_id: str, zeros: int) -> None: ...

    def progress(self) -> Progress: ...


class UnansweredHits:
    """Hits that the coordinator has not answered yet. It outlives a connection, so that no hit is lost with one."""

    def __init__(self) -> None:
        self._hits: OrderedDict[tuple[str, str], HitFound] = OrderedDict()
        #: Set from the first hit given up until all are answered, so that the log says it once.
        self._giving_up = False

    def add(self, hit: HitFound) -> None:
        self._hits[hit.lease_id, hit.nonce] = hit
        if len(self._hits) > MAX_UNANSWERED:
            self._hits.popitem(last=False)
            if not self._giving_up:
                logger.warning("the coordinator leaves %d hits unanswered; giving up the oldest ones", MAX_UNANSWERED)
            self._giving_up = True

    def answered(self, lease_id: str, nonce: str) -> None:
        self._hits.pop((lease_id, nonce), None)
        self._giving_up = self._giving_up and bool(self._hits)

    def all(self) -> tuple[HitFound, ...]:
        """Oldest first."""
        return tuple(self._hits.values())


class Conversation:
    """One connection's worth of talk: `hello`, then `welcome`, then `receive`, `report` and `tick` in any order."""

    def __init__(self, worker_id: str, name: str, devices: Sequence[Device], unanswered: UnansweredHits) -> None:
        self._worker_id = worker_id
        self._name = name
        self._devices: Mapping[str, Device] = {device.device.device_id: device for device in devices}
        self._unanswered = unanswered
        #: Leases granted over this connection whose end is not sent yet.
        self._held: dict[str, Lease] = {}
        #: Of each device, as last reported or, before that, when the conversation began.
        self._reported = {device_id: device.progress() for device_id, device in self._devices.items()}
        #: Hits accepted since the last tick: the log has a line for the first one and another for the rest.
        self._accepted = 0
        self._last_sent = -math.inf
        self._welcomed = False
        #: Seconds, from the welcome.
        self.progress_interval = math.inf
        self.silence_limit = math.inf
        #: True once no new lease is taken.
        self.draining = False
        #: What the coordinator said when it asked the worker to disconnect; None if it did not.
        self.told_to_go: str | None = None

    @property
    def finished(self) -> bool:
        """True when everything is given back and the stream can be closed."""
        return self.draining and not self._held

    def hello(self) -> pb.ConnectRequest:
        """The first message."""
        devices = [
            pb.Device(
                device_id=device.device.device_id,
                name=device.device.name,
                engine=pb.EngineKind.Value(f"ENGINE_KIND_{device.device.kind.name}"),
                nominal_rate=device.rate,
                driver=device.device.driver,
            )
            for device in self._devices.values()
        ]
        hello = pb.Hello(worker_id=self._worker_id, name=self._name, version=__version__, devices=devices)
        return pb.ConnectRequest(hello=hello)

    def welcome(self, message: pb.ConnectResponse) -> list[pb.ConnectRequest]:
        """Take the answer to hello, and send again the hits that an earlier connection left unanswered.

        Raises CoordinatorError if it is no usable welcome.
        """
        if message.WhichOneof("message") != "welcome":
            raise CoordinatorError("the coordinator answered hello with something else than a welcome")
        self.progress_interval = _checked_interval("progress interval", message.welcome.progress_interval_seconds)
        self.silence_limit = _checked_interval("silence limit", message.welcome.silence_limit_seconds)
        self._welcomed = True
        hits = self._unanswered.all()
        if hits:
            logger.info("sending again %d hits that were found before the connection was lost", len(hits))
        return [_hit(hit) for hit in hits]

    @property
    def tick_interval(self) -> float:
        """Seconds between calls of `tick`."""
        return min(self.progress_interval, self.silence_limit / HEARTBEATS_PER_SILENCE_LIMIT)

    def receive(self, message: pb.ConnectResponse) -> list[pb.ConnectRequest]:
        """Do what a message of the coordinator, or each one of a bundle, asks for.

        Raises CoordinatorError for a bundle that is too large or holds another.
        """
        answers: list[pb.ConnectRequest] = []
        for one in unbundled(message):
            answers += self._receive_one(one)
        return answers

    def _receive_one(self, message: pb.ConnectResponse) -> list[pb.ConnectRequest]:
        kind = message.WhichOneof("message")
        if kind == "lease":
            return self._take_lease(message.lease)
        if kind == "cancel_lease":
            lease = self._held.get(message.cancel_lease.lease_id)
            if lease is not None:  # else its end is on its way already
                self._devices[lease.device_id].cancel(lease.lease_id)
        elif kind == "retarget":
            return self._retarget(message.retarget)
        elif kind == "verdict":
            self._note_verdict(message.verdict)
        elif kind == "drain":
            self.told_to_go = _shown(message.drain.reason) or "no reason given"
            return self.drain()
        else:
            # a newer coordinator may know messages that this worker does not; the rest of the protocol still holds
            logger.warning("ignored a message of the coordinator that this version does not know")
        return []

    def report(self, report: HitFound | LeaseOver) -> list[pb.ConnectRequest]:
        """Pass on what a device reports. A lease that is not of this connection is nobody's business any more."""
        if isinstance(report, HitFound):
            self._unanswered.add(report)
            return [_hit(report)] if self._welcomed else []  # the welcome sends all that is unanswered
        lease = self._held.pop(report.lease_id, None)
        if lease is None:
            return []
        return [_ended(report)]

    def sent(self, now: float) -> None:
        """Note that something was sent at `now`."""
        self._last_sent = now

    def tick(self, now: float) -> list[pb.ConnectRequest]:
        """Progress of every device at work, told as that of one lease; a heartbeat if there is nothing to say for long.

        The rate is that of the device since it was last reported, whatever leases it had in work.
        """
        if self._accepted > 1:
            logger.info("and %d more hits accepted", self._accepted - 1)
        self._accepted = 0
        messages = []
        for device_id, device in self._devices.items():
            progress = device.progress()
            if progress.lease_id is None or progress.lease_id not in self._held:
                continue
            last, self._reported[device_id] = self._reported[device_id], progress
            seconds = progress.busy_seconds - last.busy_seconds
            rate = (progress.hashed - last.hashed) / seconds if seconds > 0 else 0.0
            told = pb.LeaseProgress(lease_id=progress.lease_id, done=progress.done, hash_rate=rate)
            messages.append(pb.ConnectRequest(progress=told))
        # half a tick of slack: a tick that comes a moment early must not put the heartbeat off to the next one
        quiet_since = now - self._last_sent + self.tick_interval / 2
        if not messages and quiet_since >= self.silence_limit / HEARTBEATS_PER_SILENCE_LIMIT:
            messages.append(pb.ConnectRequest(heartbeat=pb.Heartbeat()))
        return messages

    def drain(self) -> list[pb.ConnectRequest]:
        """Take no new lease and give back those held; `finished` turns true when the devices have answered."""
        if self.draining:
            return []
        self.draining = True
        for device in self._devices.values():
            device.cancel_all()
        return [pb.ConnectRequest(draining=pb.Draining())]

    def _take_lease(self, message: pb.Lease) -> list[pb.ConnectRequest]:
        lease_id = message.lease_id
        if lease_id in self._held:
            logger.warning("ignored lease %s, which was granted a second time", _shown(lease_id))
            return []
        if self.draining:
            return [_ended(LeaseOver(lease_id, 0, EndReason.CANCELLED))]
        try:
            lease = read_lease(message)
            device = self._devices.get(lease.device_id)
            if device is None:
                raise InvalidInput(f"this worker has no device {_shown(lease.device_id)}")
            device.offer(lease)
        except InvalidInput as error:
            logger.warning("refused lease %s: %s", _shown(lease_id), error)
            return [_ended(LeaseOver(lease_id, 0, EndReason.FAILED, str(error)))]
        self._held[lease_id] = lease
        return []

    def _retarget(self, message: pb.Retarget) -> list[pb.ConnectRequest]:
        lease = self._held.get(message.lease_id)
        if lease is None:  # its end is on its way already
            return []
        device = self._devices[lease.device_id]
        try:
            check_search(lease.space, lease.start, lease.count, message.zeros)
        except InvalidInput as error:
            # hashing on for the old target might pass over the hits that are wanted now
            logger.warning("ended lease %s on a bad retarget: %s", lease.lease_id, error)
            progress = device.progress()
            done = progress.done if progress.lease_id == lease.lease_id else 0
            del self._held[lease.lease_id]
            device.cancel(lease.lease_id)
            return [_ended(LeaseOver(lease.lease_id, done, EndReason.FAILED, str(error)))]
        device.retarget(lease.lease_id, message.zeros)
        return []

    def _note_verdict(self, verdict: pb.HitVerdict) -> None:
        self._unanswered.answered(verdict.lease_id, verdict.nonce)
        if verdict.rejected == pb.REJECT_REASON_UNSPECIFIED:
            self._accepted += 1
            if self._accepted == 1:
                logger.info("hit accepted: nonce %s", _shown(verdict.nonce))
            return
        known = verdict.rejected in pb.RejectReason.values()
        reason = pb.RejectReason.Name(verdict.rejected) if known else str(verdict.rejected)
        reason = reason.removeprefix("REJECT_REASON_").lower().replace("_", " ")
        level = logging.INFO if verdict.rejected in _HARMLESS else logging.WARNING
        logger.log(level, "hit rejected as %s: nonce %s", reason, _shown(verdict.nonce))


def _checked_interval(what: str, seconds: float) -> float:
    if not SHORTEST_INTERVAL <= seconds <= LONGEST_INTERVAL:  # false for NaN too
        raise CoordinatorError(
            f"the coordinator's {what} is {seconds:g} seconds; "
            f"it should be {SHORTEST_INTERVAL:g} to {LONGEST_INTERVAL:g}"
        )
    return seconds


def _hit(hit: HitFound) -> pb.ConnectRequest:
    return pb.ConnectRequest(hit=pb.Hit(lease_id=hit.lease_id, job_id=hit.job_id, nonce=hit.nonce))


def _ended(over: LeaseOver) -> pb.ConnectRequest:
    ended = pb.LeaseEnded(lease_id=over.lease_id, done=over.done, reason=_END_REASONS[over.reason], error=over.error)
    return pb.ConnectRequest(lease_ended=ended)


def _shown(text: str) -> str:
    return ascii(text[:_SHOWN])[1:-1]
