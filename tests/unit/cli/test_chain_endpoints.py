"""How the nodes of the chain are given, and how they are shown."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from coordinator import server
from coordinator.chain.endpoint_choice import EndpointState, EndpointStatus
from hashfleet.cli.main import cli
from hashfleet.rpc.hashfleet.v1 import fleet_service_pb2 as fleet


def shown(coordinator: Any) -> str:
    result = CliRunner().invoke(cli, ["fleet", "status", "--coordinator", coordinator.address])
    assert result.exception is None, result.exception
    return result.output


def test_status_shows_every_node_with_its_state_and_why(scripted_coordinator: Any, busy_fleet: Any) -> None:
    busy_fleet.chain.endpoints.extend(
        [
            fleet.ChainEndpoint(
                name="gRPC node-a:9090",
                state=fleet.CHAIN_ENDPOINT_STATE_HEALTHY,
                height=679700,
                seconds=0.012,
                version="v0.21.0",
            ),
            fleet.ChainEndpoint(
                name="REST [::1]:1317", state=fleet.CHAIN_ENDPOINT_STATE_REFUSED, error="belongs to chain [devnet-2]"
            ),
        ]
    )
    scripted_coordinator.fleet = busy_fleet
    out = " ".join(shown(scripted_coordinator).split())  # a narrow terminal breaks lines
    assert "gRPC node-a:9090 healthy, height 679700, 12 ms, v0.21.0" in out
    assert "REST [::1]:1317 REFUSED, belongs to chain [devnet-2]" in out


def test_an_estimated_height_is_marked_as_one_and_left_out_while_blocks_come(
    scripted_coordinator: Any, busy_fleet: Any
) -> None:
    scripted_coordinator.fleet = busy_fleet
    busy_fleet.chain.estimated_height = 679701
    assert "estimated" not in shown(scripted_coordinator)
    busy_fleet.chain.estimated_height = 679712
    assert "at height 679700, estimated 679712 now" in shown(scripted_coordinator)


@pytest.mark.parametrize("state", EndpointState)
def test_every_state_of_an_endpoint_has_a_name_in_the_api(state: EndpointState) -> None:
    from coordinator.api.messages import _endpoint_message

    message = _endpoint_message(EndpointStatus("gRPC a:1", state, 7, 0.1, "v0.21.0", "why"))
    assert fleet.ChainEndpointState.Name(message.state) == f"CHAIN_ENDPOINT_STATE_{state.name}"
    assert (message.name, message.height, message.version, message.error) == ("gRPC a:1", 7, "v0.21.0", "why")


@pytest.mark.parametrize("command", ["coordinator", "up"])
def test_without_a_node_it_is_said_how_to_name_one(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRPC", "REST", "RPC"):
        monkeypatch.delenv(f"HASHFLEET_CHAIN_{name}", raising=False)
    result = CliRunner().invoke(cli, [command])
    assert result.exit_code != 0
    assert "--chain-grpc HOST:PORT" in f"{result.output}{result.exception}"
    assert "--chain-rest URL" in f"{result.output}{result.exception}"


class _Seen(Exception):
    """Carries the settings that the command made."""


def settings_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> server.Settings:
    """The settings with which `hashfleet coordinator` would serve."""

    async def seen(settings: server.Settings, *_: object) -> None:
        raise _Seen(settings)

    monkeypatch.setattr(server, "serve", seen)
    result = CliRunner().invoke(cli, ["coordinator", "--watch-only", *arguments])
    assert isinstance(result.exception, _Seen), result.output
    told = result.exception.args[0]
    assert isinstance(told, server.Settings)
    return told


def test_nodes_may_be_repeated_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    told = settings_of(
        monkeypatch, "--chain-grpc", "a:9090", "--chain-grpc", "b:9090", "--chain-rest", "c:1317", "--chain-rpc", "d:1"
    )
    assert (told.chain_grpc, told.chain_rest, told.chain_rpc) == (("a:9090", "b:9090"), ("c:1317",), ("d:1",))


def test_rest_alone_is_enough_and_the_environment_separates_by_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HASHFLEET_CHAIN_GRPC", raising=False)
    monkeypatch.setenv("HASHFLEET_CHAIN_REST", "http://a:1317 http://b:1317")
    told = settings_of(monkeypatch)
    assert (told.chain_grpc, told.chain_rest) == ((), ("http://a:1317", "http://b:1317"))
