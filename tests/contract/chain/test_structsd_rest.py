"""What only REST has: paths, HTTP statuses, bodies from something else than a node, and TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.chain import rest_transport
from coordinator.chain.rest_transport import RestTransport, parse_rest_url
from coordinator.chain.structsd import StructsdClient
from hashfleet.action import Action
from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput, WorkGone

TX_HASH = "AB" * 32


@pytest.fixture
def chain(rest_chain: Any) -> Any:
    """A scripted node whose clients use REST."""
    return rest_chain


async def test_the_height_has_a_path_without_the_modules_prefix(chain: Any) -> None:
    client = await chain.connected()
    assert await client.committed_height() == 1310000
    assert chain.gateway.asked[-1] == "/blockheight"


async def test_an_object_is_gone_only_if_the_node_itself_says_so(chain: Any) -> None:
    client = await chain.connected()
    with pytest.raises(WorkGone):
        await client.read_work(Action.BUILD, "5-99")
    for body in (b"404 page not found", b"<html>not found</html>", b'{"message":"not found"}', b""):
        chain.gateway.instead = 404, body
        with pytest.raises(BadChainAnswer, match="does not serve struct 5-99"):
            await client.read_work(Action.BUILD, "5-99")
        with pytest.raises(BadChainAnswer, match="does not serve transaction"):
            await client.find_transaction(TX_HASH)


@pytest.mark.parametrize(
    ("status", "body", "error", "told"),
    [
        (502, b"<html>Bad Gateway</html>", ChainUnavailable, "HTTP status 502"),
        (503, b"", ChainUnavailable, "UNAVAILABLE"),
        (429, b"slow down", ChainUnavailable, "RESOURCE_EXHAUSTED"),
        (500, b'{"code":2,"message":"codespace structs code 1050: object not found"}', WorkGone, "does not exist"),
        (500, b'{"code":13,"message":"panic"}', ChainUnavailable, "INTERNAL: panic"),
        (501, b"", BadChainAnswer, "does not serve"),
        (400, b'{"code":3,"message":"bad id"}', BadChainAnswer, "INVALID_ARGUMENT: bad id"),
        (403, b"no", BadChainAnswer, "PERMISSION_DENIED"),
        (302, b"", ChainUnavailable, "HTTP status 302"),
        (200, b"<html>welcome</html>", BadChainAnswer, "cannot be read"),
        (200, b"{}", BadChainAnswer, "none of the members"),
    ],
)
async def test_each_http_answer_becomes_our_error(
    chain: Any, status: int, body: bytes, error: type[Exception], told: str
) -> None:
    client = await chain.connected()
    chain.node.structs.clear()
    answer = chain.gateway._answer

    async def only_structs(verb: str, path: str, sent: bytes) -> tuple[int, list[str], bytes]:
        return (status, [], body) if path.startswith("/structs/") else await answer(verb, path, sent)

    chain.gateway._answer = only_structs
    with pytest.raises(error, match=told):
        await client.read_work(Action.BUILD, "5-99")


async def test_a_body_without_end_is_cut_off(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await chain.connected()
    monkeypatch.setattr(rest_transport, "MAX_ANSWER_BYTES", 1000)
    chain.gateway.instead = 200, b" " * 2000
    with pytest.raises(BadChainAnswer, match="more than 1000 bytes"):
        await client.latest_block()


async def test_zero_members_that_nested_messages_leave_out_are_zeros(chain: Any) -> None:
    client = await chain.connected()
    chain.gateway.instead = (
        200,
        json.dumps(
            {
                "Struct": {"id": "5-28", "type": "14", "owner": "1-7", "locationType": "planet", "locationId": "2-9"},
                "structAttributes": {"blockStartBuild": "1283950"},
            }
        ).encode(),
    )
    struct = await client._objects.struct("5-28", None)
    assert (struct.build_anchor, struct.built, struct.mine_anchor) == (1283950, False, 0)


async def test_a_node_that_does_not_tell_heights_is_taken_at_its_word(chain: Any) -> None:
    chain.gateway.tells_height = False
    client = await chain.connected()
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1290000


async def test_the_path_before_the_nodes_own_is_kept_and_never_shown(chain: Any) -> None:
    client = StructsdClient(RestTransport(f"{chain.rest_url}/secret-token/", timeout=5.0), None, None)
    with pytest.raises(BadChainAnswer) as failure:
        await client.connect()
    assert chain.gateway.asked[-1].startswith("/secret-token/cosmos/")
    assert "secret" not in str(failure.value)
    assert "secret" not in client.shown
    await client.close()


async def test_connections_are_kept_from_call_to_call(chain: Any) -> None:
    client = await chain.connected()
    for _ in range(20):
        await client.committed_height()
    assert len(chain.gateway._talks) == 1


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("http://node:1317", "http://node:1317", "node:1317"),
        ("node:1317", "http://node:1317", "node:1317"),
        ("https://node/token/", "https://node/token", "node"),
        ("http://[::1]:1317/", "http://[::1]:1317", "[::1]:1317"),
    ],
)
def test_a_rest_url_is_read(text: str, url: str, shown: str) -> None:
    assert parse_rest_url(text) == (url, shown)


@pytest.mark.parametrize(
    "text", ["", "http://", "ftp://node", "http://u:p@node", "http://node?x=1", "http://node:0", "a b"]
)
def test_what_is_no_rest_url_is_refused_without_showing_secrets(text: str) -> None:
    with pytest.raises(InvalidInput, match="REST URL") as failure:
        parse_rest_url(text)
    assert "u:p" not in str(failure.value)


async def test_rest_over_tls_needs_a_certificate_that_somebody_vouches_for(chain: Any, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    certificate = made.public_bytes(pem)
    (tmp_path / "cert").write_bytes(certificate)
    (tmp_path / "key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    await chain.gateway.stop()
    chain.gateway.port = 0
    await chain.gateway.start(chain.grpc_port, context)
    url = f"https://localhost:{chain.gateway.port}"
    trusting = StructsdClient(RestTransport(url, timeout=5.0, root_certificates=certificate), None, "devnet-1")
    await trusting.connect()
    assert (await trusting.latest_block()).height == 1310000
    await trusting.close()
    wary = StructsdClient(RestTransport(url, timeout=5.0), None, "devnet-1")
    with pytest.raises(ChainUnavailable):
        await wary.connect()
    await wary.close()


async def test_closing_ends_a_call_that_waits_for_its_turn(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_transport, "MAX_CALLS", 1)
    client = await chain.connected()
    asked = asyncio.Event()

    async def hang() -> None:
        asked.set()
        await asyncio.Event().wait()

    chain.node.before["Struct"] = hang
    readings = [asyncio.ensure_future(client.read_work(Action.BUILD, "5-28")) for _ in range(3)]
    await asked.wait()
    await client.close()
    for told in await asyncio.gather(*readings, return_exceptions=True):
        assert isinstance(told, ChainUnavailable)
