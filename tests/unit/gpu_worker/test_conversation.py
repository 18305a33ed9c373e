"""What the worker decides on each message, without network, thread or clock."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scripted_coordinator import lease as lease_message

from gpu_worker.conversation import MAX_UNANSWERED, Conversation, UnansweredHits
from gpu_worker.device_runner import HitFound, LeaseOver, Progress
from gpu_worker.lease import EndReason, Lease
from hashfleet.engine import DeviceInfo, EngineKind
from hashfleet.errors import CoordinatorError, InvalidInput
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb

IDLE = Progress(None, 0, 0, 0.0)


class RecordingDevice:
    """Does nothing but remember what it was told."""

    def __init__(self, device_id: str = "fake:0") -> None:
        self.device = DeviceInfo(device_id, "a fake", EngineKind.CUDA, "driver 1")
        self.rate = 2.5e9
        self.offered: list[Lease] = []
        self.told: list[tuple[object, ...]] = []
        self.at = IDLE
        self.full = False

    def offer(self, lease: Lease) -> None:
        if self.full:
            raise InvalidInput("full")
        self.offered.append(lease)

    def cancel(self, lease_id: str) -> None:
        self.told.append(("cancel", lease_id))

    def cancel_all(self) -> None:
        self.told.append(("cancel_all",))

    def retarget(self, lease_id: str, zeros: int) -> None:
        self.told.append(("retarget", lease_id, zeros))

    def progress(self) -> Progress:
        return self.at


@pytest.fixture
def device() -> RecordingDevice:
    return RecordingDevice()


@pytest.fixture
def unanswered() -> UnansweredHits:
    return UnansweredHits()


@pytest.fixture
def conversation(device: RecordingDevice, unanswered: UnansweredHits) -> Conversation:
    """After the welcome: progress every second, silence limit nine."""
    made = Conversation("w_1", "here", [device], unanswered)
    assert made.welcome(welcome(1.0, 9.0)) == []
    return made


def welcome(progress: float, silence: float) -> pb.ConnectResponse:
    return pb.ConnectResponse(welcome=pb.Welcome(progress_interval_seconds=progress, silence_limit_seconds=silence))


def granted(**changes: Any) -> pb.ConnectResponse:
    return pb.ConnectResponse(lease=lease_message(**changes))


def test_hello_names_every_device_with_its_rate(device: RecordingDevice, unanswered: UnansweredHits) -> None:
    hello = Conversation("w_1", "here", [device], unanswered).hello().hello
    assert (hello.worker_id, hello.name) == ("w_1", "here")
    (shown,) = hello.devices
    assert (shown.device_id, shown.engine, shown.nominal_rate) == ("fake:0", pb.ENGINE_KIND_CUDA, 2.5e9)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, 1e9])
@pytest.mark.parametrize("which", ["progress", "silence"])
def test_a_welcome_with_an_absurd_interval_is_refused(
    device: RecordingDevice, unanswered: UnansweredHits, seconds: float, which: str
) -> None:
    message = welcome(seconds, 9.0) if which == "progress" else welcome(1.0, seconds)
    with pytest.raises(CoordinatorError, match=which):
        Conversation("w_1", "here", [device], unanswered).welcome(message)


def test_anything_but_a_welcome_after_hello_is_refused(device: RecordingDevice, unanswered: UnansweredHits) -> None:
    with pytest.raises(CoordinatorError, match="something else than a welcome"):
        Conversation("w_1", "here", [device], unanswered).welcome(granted())


def test_a_lease_goes_to_the_device_it_names(conversation: Conversation, device: RecordingDevice) -> None:
    assert conversation.receive(granted(lease_id="l_a", zeros=7)) == []
    (lease,) = device.offered
    assert (lease.lease_id, lease.zeros) == ("l_a", 7)


@pytest.mark.parametrize(
    ("changes", "sentence"), [({"device_id": "cuda:9"}, "no device cuda:9"), ({"counter_digits": 40}, "counter_digits")]
)
def test_a_bad_lease_is_ended_as_failed_with_the_sentence(
    conversation: Conversation, device: RecordingDevice, changes: dict[str, object], sentence: str
) -> None:
    (answer,) = conversation.receive(granted(lease_id="l_a", **changes))
    assert (answer.lease_ended.lease_id, answer.lease_ended.reason) == ("l_a", pb.END_REASON_FAILED)
    assert sentence in answer.lease_ended.error
    assert device.offered == []


def test_a_lease_that_the_device_has_no_room_for_is_ended_as_failed(
    conversation: Conversation, device: RecordingDevice
) -> None:
    device.full = True
    (answer,) = conversation.receive(granted())
    assert (answer.lease_ended.reason, answer.lease_ended.error) == (pb.END_REASON_FAILED, "full")


def test_a_lease_granted_twice_is_hashed_once(conversation: Conversation, device: RecordingDevice) -> None:
    message = granted()
    assert conversation.receive(message) == []
    assert conversation.receive(message) == []
    assert len(device.offered) == 1


def test_cancel_and_retarget_reach_the_device_that_holds_the_lease(
    conversation: Conversation, device: RecordingDevice
) -> None:
    conversation.receive(granted(lease_id="l_a"))
    assert conversation.receive(pb.ConnectResponse(retarget=pb.Retarget(lease_id="l_a", zeros=5))) == []
    assert conversation.receive(pb.ConnectResponse(cancel_lease=pb.CancelLease(lease_id="l_a"))) == []
    assert device.told == [("retarget", "l_a", 5), ("cancel", "l_a")]


def test_cancel_and_retarget_of_a_lease_that_has_ended_are_nothing_to_do(
    conversation: Conversation, device: RecordingDevice
) -> None:
    conversation.receive(granted(lease_id="l_a"))
    conversation.report(LeaseOver("l_a", 1000, EndReason.EXHAUSTED))
    assert conversation.receive(pb.ConnectResponse(retarget=pb.Retarget(lease_id="l_a", zeros=5))) == []
    assert conversation.receive(pb.ConnectResponse(cancel_lease=pb.CancelLease(lease_id="l_a"))) == []
    assert device.told == []


def test_a_retarget_to_impossible_zeros_ends_the_lease_once(
    conversation: Conversation, device: RecordingDevice
) -> None:
    conversation.receive(granted(lease_id="l_a"))
    device.at = Progress("l_a", 300, 300, 1.0)
    (answer,) = conversation.receive(pb.ConnectResponse(retarget=pb.Retarget(lease_id="l_a", zeros=65)))
    ended = answer.lease_ended
    assert (ended.lease_id, ended.done, ended.reason) == ("l_a", 300, pb.END_REASON_FAILED)
    assert device.told == [("cancel", "l_a")]
    assert conversation.report(LeaseOver("l_a", 400, EndReason.CANCELLED)) == []


def test_the_end_of_a_lease_of_an_earlier_connection_is_not_reported(conversation: Conversation) -> None:
    assert conversation.report(LeaseOver("l_old", 5, EndReason.EXHAUSTED)) == []


def test_a_message_that_this_version_does_not_know_is_passed_over(conversation: Conversation) -> None:
    assert conversation.receive(pb.ConnectResponse()) == []


def test_progress_says_how_far_and_how_fast_since_the_last_report(
    conversation: Conversation, device: RecordingDevice
) -> None:
    conversation.receive(granted(lease_id="l_a"))
    device.at = Progress("l_a", 500, 500, 1.0)
    (first,) = conversation.tick(101.0)
    device.at = Progress("l_a", 2500, 2500, 3.0)
    (second,) = conversation.tick(103.0)
    assert (first.progress.done, first.progress.hash_rate) == (500, 500.0)
    assert (second.progress.done, second.progress.hash_rate) == (2500, 1000.0)


def test_the_rate_covers_all_leases_that_the_device_had_in_work_since_the_last_report(
    conversation: Conversation, device: RecordingDevice
) -> None:
    for lease_id in ("l_a", "l_b", "l_c"):
        conversation.receive(granted(lease_id=lease_id))
    device.at = Progress("l_a", 900, 900, 1.0)
    conversation.tick(101.0)
    device.at = Progress("l_c", 100, 4900, 3.0)
    (message,) = conversation.tick(103.0)
    assert (message.progress.lease_id, message.progress.done) == ("l_c", 100)
    assert message.progress.hash_rate == 2000.0


def test_the_time_between_leases_does_not_lower_the_rate(conversation: Conversation, device: RecordingDevice) -> None:
    conversation.receive(granted(lease_id="l_a"))
    device.at = Progress("l_a", 900, 900, 1.0)
    conversation.tick(101.0)
    device.at = Progress("l_a", 1000, 1000, 1.5)  # half a second of hashing in ten
    (message,) = conversation.tick(111.0)
    assert message.progress.hash_rate == 200.0


def test_what_a_device_hashed_before_the_conversation_is_not_in_its_first_rate(
    device: RecordingDevice, unanswered: UnansweredHits
) -> None:
    device.at = Progress(None, 0, 10**9, 100.0)
    conversation = Conversation("w_1", "here", [device], unanswered)
    conversation.welcome(welcome(1.0, 9.0))
    conversation.receive(granted(lease_id="l_a"))
    device.at = Progress("l_a", 50, 10**9 + 50, 101.0)
    (message,) = conversation.tick(101.0)
    assert message.progress.hash_rate == 50.0


def test_progress_is_told_of_leases_of_this_conversation_only(
    conversation: Conversation, device: RecordingDevice
) -> None:
    conversation.sent(100.0)
    device.at = Progress("l_of_an_earlier_connection", 50, 50, 1.0)
    assert conversation.tick(101.0) == []


def test_a_device_that_hangs_is_reported_with_rate_zero_and_not_in_silence(
    conversation: Conversation, device: RecordingDevice
) -> None:
    conversation.receive(granted(lease_id="l_a"))
    device.at = Progress("l_a", 500, 500, 1.0)
    conversation.tick(101.0)
    device.at = Progress("l_a", 500, 500, 2.0)
    (message,) = conversation.tick(102.0)
    assert (message.progress.done, message.progress.hash_rate) == (500, 0.0)


def test_the_messages_of_a_bundle_are_obeyed_in_order(conversation: Conversation, device: RecordingDevice) -> None:
    messages = [granted(lease_id="l_a"), granted(lease_id="l_b"), granted(device_id="cuda:9", lease_id="l_c")]
    messages.append(pb.ConnectResponse(cancel_lease=pb.CancelLease(lease_id="l_a")))
    (answer,) = conversation.receive(pb.ConnectResponse(bundle=pb.CoordinatorBundle(messages=messages)))
    assert [lease.lease_id for lease in device.offered] == ["l_a", "l_b"]
    assert (answer.lease_ended.lease_id, answer.lease_ended.reason) == ("l_c", pb.END_REASON_FAILED)
    assert device.told == [("cancel", "l_a")]


def test_of_many_accepted_hits_the_log_has_two_lines_per_tick(
    conversation: Conversation, caplog: pytest.LogCaptureFixture
) -> None:
    verdicts = [pb.ConnectResponse(verdict=pb.HitVerdict(lease_id="l_a", nonce=str(n))) for n in range(200)]
    with caplog.at_level("INFO"):
        conversation.receive(pb.ConnectResponse(bundle=pb.CoordinatorBundle(messages=verdicts)))
        conversation.tick(101.0)
        conversation.tick(102.0)
    assert [record.getMessage() for record in caplog.records] == [
        "hit accepted: nonce 0",
        "and 199 more hits accepted",
    ]


def test_an_idle_worker_sends_heartbeats_at_a_third_of_the_silence_limit(conversation: Conversation) -> None:
    conversation.sent(100.0)
    assert conversation.tick(101.0) == []
    assert conversation.tick(102.0) == []
    (message,) = conversation.tick(103.0)
    assert message.WhichOneof("message") == "heartbeat"


def test_the_tick_is_never_longer_than_a_third_of_the_silence_limit(
    device: RecordingDevice, unanswered: UnansweredHits
) -> None:
    conversation = Conversation("w_1", "here", [device], unanswered)
    conversation.welcome(welcome(60.0, 3.0))
    assert conversation.tick_interval == 1.0


def test_a_hit_stays_unanswered_until_its_verdict_whatever_that_is(
    conversation: Conversation, unanswered: UnansweredHits
) -> None:
    kept, answered = HitFound("l_a", "pow_1", "11"), HitFound("l_a", "pow_1", "12")
    assert [m.hit.nonce for m in conversation.report(kept) + conversation.report(answered)] == ["11", "12"]
    verdict = pb.HitVerdict(lease_id="l_a", nonce="12", rejected=pb.REJECT_REASON_STALE)
    conversation.receive(pb.ConnectResponse(verdict=verdict))
    assert unanswered.all() == (kept,)


def test_hits_left_unanswered_are_sent_again_after_the_next_welcome_and_once(
    device: RecordingDevice, unanswered: UnansweredHits
) -> None:
    unanswered.add(HitFound("l_a", "pow_1", "11"))
    conversation = Conversation("w_1", "here", [device], unanswered)
    between = conversation.report(HitFound("l_a", "pow_1", "12"))
    after = conversation.welcome(welcome(1.0, 9.0))
    assert between == []
    assert [message.hit.nonce for message in after] == ["11", "12"]


def test_unanswered_hits_are_bounded_and_the_oldest_go_first_with_one_line_in_the_log(
    unanswered: UnansweredHits, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(MAX_UNANSWERED + 5):
        unanswered.add(HitFound("l_a", "pow_1", str(number)))
    assert len(unanswered.all()) == MAX_UNANSWERED
    assert unanswered.all()[0].nonce == "5"
    assert len(caplog.records) == 1


def test_draining_gives_back_what_is_held_and_takes_nothing_new(
    conversation: Conversation, device: RecordingDevice
) -> None:
    conversation.receive(granted(lease_id="l_a"))
    assert [m.WhichOneof("message") for m in conversation.drain()] == ["draining"]
    assert device.told == [("cancel_all",)]
    (refused,) = conversation.receive(granted(lease_id="l_b"))
    assert refused.lease_ended.reason == pb.END_REASON_CANCELLED
    assert not conversation.finished
    (given_back,) = conversation.report(LeaseOver("l_a", 400, EndReason.CANCELLED))
    assert (given_back.lease_ended.done, given_back.lease_ended.reason) == (400, pb.END_REASON_CANCELLED)
    assert conversation.finished


def test_a_coordinator_that_stops_gets_its_leases_back(conversation: Conversation, device: RecordingDevice) -> None:
    (message,) = conversation.receive(pb.ConnectResponse(drain=pb.Drain(reason="restart")))
    assert message.WhichOneof("message") == "draining"
    assert conversation.told_to_go == "restart"
    assert conversation.finished
