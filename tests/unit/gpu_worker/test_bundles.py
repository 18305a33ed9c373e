"""Several messages in one."""

from __future__ import annotations

from collections import deque

import pytest

from gpu_worker.bundles import MOST_SENT, MOST_SENT_BYTES, MOST_TAKEN, next_message, unbundled
from hashfleet.errors import CoordinatorError
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb


def hit(nonce: str) -> pb.ConnectRequest:
    return pb.ConnectRequest(hit=pb.Hit(lease_id="l_1", job_id="pow_1", nonce=nonce))


def retarget(zeros: int) -> pb.ConnectResponse:
    return pb.ConnectResponse(retarget=pb.Retarget(lease_id="l_1", zeros=zeros))


def bundle(*messages: pb.ConnectResponse) -> pb.ConnectResponse:
    return pb.ConnectResponse(bundle=pb.CoordinatorBundle(messages=messages))


def sent(outbox: deque[pb.ConnectRequest]) -> list[pb.ConnectRequest]:
    messages = []
    while outbox:
        messages.append(next_message(outbox))
    return messages


def test_a_single_message_goes_plain() -> None:
    assert sent(deque([hit("1")])) == [hit("1")]


def test_all_that_waits_goes_as_one_bundle_in_order() -> None:
    (message,) = sent(deque(hit(str(n)) for n in range(5)))
    assert [one.hit.nonce for one in message.bundle.messages] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("waiting", "sizes"), [(MOST_SENT, [MOST_SENT]), (2 * MOST_SENT + 1, [MOST_SENT, MOST_SENT, 0])]
)
def test_a_bundle_holds_no_more_messages_than_it_may(waiting: int, sizes: list[int]) -> None:
    messages = sent(deque(hit(str(n)) for n in range(waiting)))
    assert [len(message.bundle.messages) for message in messages] == sizes


def test_a_bundle_holds_no_more_bytes_than_it_may() -> None:
    long = hit("1" * (MOST_SENT_BYTES // 3))
    messages = sent(deque([long] * 5))
    assert [len(message.bundle.messages) for message in messages] == [2, 2, 0]


def test_a_message_longer_than_a_bundle_may_be_goes_plain() -> None:
    longer = hit("1" * (MOST_SENT_BYTES + 1))
    assert sent(deque([longer, longer])) == [longer, longer]


def test_the_messages_of_a_bundle_are_taken_in_order() -> None:
    assert list(unbundled(bundle(*(retarget(n) for n in range(1, 9))))) == [retarget(n) for n in range(1, 9)]


def test_a_plain_message_is_taken_as_it_is() -> None:
    assert list(unbundled(retarget(3))) == [retarget(3)]


def test_the_largest_bundle_is_taken_and_a_larger_one_refused() -> None:
    assert len(unbundled(bundle(*[retarget(3)] * MOST_TAKEN))) == MOST_TAKEN
    with pytest.raises(CoordinatorError, match=f"{MOST_TAKEN + 1} messages"):
        unbundled(bundle(*[retarget(3)] * (MOST_TAKEN + 1)))


def test_a_bundle_within_a_bundle_is_refused() -> None:
    with pytest.raises(CoordinatorError, match="should not nest"):
        unbundled(bundle(retarget(3), bundle(retarget(4))))
