"""Reading CometBFT's JSON: liberal about where a header lies, strict about what it says."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.chain import cometbft
from coordinator.chain.client import Block
from coordinator.chain.grpc_transport import parse_target
from hashfleet.errors import InvalidInput

HEADER = {"chain_id": "devnet-1", "height": "1310000", "time": "2026-04-17T10:11:12.500000000Z"}
BLOCK = Block(1310000, 1776420672.5)


def header(**changes: Any) -> dict[str, Any]:
    return {**HEADER, **changes}


NESTINGS: dict[str, Any] = {
    "documented": {
        "jsonrpc": "2.0",
        "id": "1",
        "result": {
            "query": "tm.event='NewBlock'",
            "data": {
                "type": "tendermint/event/NewBlock",
                "value": {"block": {"header": HEADER, "last_commit": {"height": "1309999"}}},
            },
            "events": {"structs.structs.EventTime.eventTimeDetail": ['{"blockHeight":"7"}']},
        },
    },
    "header only": {"result": {"data": {"type": "tendermint/event/NewBlockHeader", "value": {"header": HEADER}}}},
    "old evidence deeper": {
        "result": {
            "data": {
                "value": {
                    "block": {
                        "evidence": {"evidence": [{"signed_header": {"header": header(height="5")}}]},
                        "header": HEADER,
                    },
                    "later": {"evidence": {"header": header(height="6")}},
                }
            }
        }
    },
    "height as a number": {"result": {"data": {"value": {"block": {"header": header(height=1310000)}}}}},
}


@pytest.mark.parametrize("name", NESTINGS)
def test_the_header_is_found_wherever_it_is_nested(name: str) -> None:
    assert cometbft.block_in_event(NESTINGS[name], "devnet-1") == BLOCK


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        [],
        "header",
        {"result": {}},
        {"result": {"data": {"value": {"block": {"last_commit": {"height": "1309999"}}}}}},
        {"header": {"height": "1310000"}},
        {"header": header(time="yesterday")},
        {"header": header(time="2026-04-17T10:11:12")},
        {"header": header(height="-1")},
        {"header": header(height="0")},
        {"header": header(height="99999999999")},
        {"header": header(height=True)},
        {"header": header(height=1.5)},
        {"header": header(height="१२")},
        {"header": header(chain_id="devnet-2")},
    ],
)
def test_an_event_without_a_whole_header_of_this_chain_announces_nothing(event: object) -> None:
    assert cometbft.block_in_event(event, "devnet-1") is None


def test_a_deep_event_is_given_up_in_bounded_time() -> None:
    event: Any = {"header": HEADER}
    for _ in range(50):
        event = {"inner": event}
    assert cometbft.block_in_event(event, "devnet-1") is None


@pytest.mark.parametrize("frame", ["", "{", b"\xff\xfe", "[" * 100_000])
def test_a_frame_that_is_no_json_says_nothing_but_breaks_nothing(frame: str | bytes) -> None:
    assert cometbft.decode(frame) == {}


@pytest.mark.parametrize(
    ("url", "http", "websocket", "tls"),
    [
        ("http://127.0.0.1:26657", "http://127.0.0.1:26657", "ws://127.0.0.1:26657/websocket", False),
        ("tcp://node:26657/", "http://node:26657", "ws://node:26657/websocket", False),
        ("https://host/rpc/", "https://host/rpc", "wss://host/rpc/websocket", True),
        ("http://[::1]:26657", "http://[::1]:26657", "ws://[::1]:26657/websocket", False),
    ],
)
def test_an_rpc_url_gives_both_ways_in(url: str, http: str, websocket: str, tls: bool) -> None:
    urls = cometbft.parse_rpc_url(url)
    assert (urls.http, urls.websocket, urls.tls) == (http, websocket, tls)


@pytest.mark.parametrize("url", ["", "localhost:26657", "ftp://h", "http://", "http://h:99999", "http://h?x=1"])
def test_an_rpc_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="RPC URL"):
        cometbft.parse_rpc_url(url)


def test_a_password_in_an_rpc_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInput, match="user name") as caught:
        cometbft.parse_rpc_url("https://me:hunter2@host")
    assert "hunter2" not in str(caught.value)


def test_what_is_shown_of_an_rpc_url_holds_no_access_token() -> None:
    assert cometbft.parse_rpc_url("https://host/token-12345").shown == "host"


@pytest.mark.parametrize(
    ("address", "tls", "expected"),
    [
        ("127.0.0.1:9090", None, ("127.0.0.1:9090", False)),
        ("http://node:9090", None, ("node:9090", False)),
        ("https://node:443/", None, ("node:443", True)),
        ("node:443", True, ("node:443", True)),
        ("[::1]:9090", None, ("[::1]:9090", False)),
    ],
)
def test_a_grpc_address_tells_host_and_tls(address: str, tls: bool | None, expected: tuple[str, bool]) -> None:
    target = parse_target(address, tls)
    assert (target.host_and_port, target.tls) == expected


@pytest.mark.parametrize("address", ["", "node", "node:0", "node:65536", "ftp://node:1", "a b:1", "dns:///x:1"])
def test_a_grpc_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="gRPC address"):
        parse_target(address)


def test_an_address_that_contradicts_the_tls_setting_is_refused() -> None:
    with pytest.raises(InvalidInput, match="contradict"):
        parse_target("https://node:443", tls=False)
