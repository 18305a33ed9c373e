"""The coordinator's HTTP door: MCP over streamable HTTP at /mcp, and /healthz for whoever keeps it running."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from coordinator.api.mcp import build_server
from hashfleet.client import FleetClient
from hashfleet.errors import HashfleetError

logger = logging.getLogger(__name__)

#: Where the coordinator listens for HTTP unless told otherwise.
DEFAULT_PORT = 7338
#: The longest call that makes sense is a listing with a page token; 64 KiB leaves room for any client's envelope.
MAX_BODY_BYTES = 64 * 1024
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def build_app(client: FleetClient, allowed_hosts: Sequence[str] = ()) -> Starlette:
    """The ASGI app with /mcp and /healthz. `client` must be open while it is served; its lifespan must be run.

    /mcp answers only requests whose Host header, and Origin header if there is one, names this machine by a local
    name or one of `allowed_hosts`: "fleet.example.com" for the default ports of http and https, with ":8443" for one
    other port, with ":*" for any. Otherwise a web page could reach a local coordinator by pointing its own name here
    (DNS rebinding).

    Every request stands alone (no sessions), so that several coordinators may share one address and a restart
    breaks no agent's connection.
    """
    hosts = [*_LOCAL_HOSTS, *(f"{name}:*" for name in _LOCAL_HOSTS), *allowed_hosts]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=hosts,
        allowed_origins=[f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")],
    )

    async def health(request: Request) -> JSONResponse:
        # Not guarded by the Host check: probes call by address, and there is nothing to steal here.
        try:
            status = await client.fleet_status()
        except HashfleetError as error:
            logger.warning("The health check fails: %s", error)
            return JSONResponse({"status": "unavailable", "error": str(error)}, status_code=503)
        return JSONResponse({"status": "ok", "version": status.version, "chain_connected": status.chain.connected})

    return build_server(client).streamable_http_app(
        streamable_http_path="/mcp",
        json_response=True,
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
        transport_security=security,
        custom_starlette_routes=[Route("/healthz", health, methods=["GET"])],
    )
