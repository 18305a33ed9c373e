"""structsd's gRPC: the methods of `queries.py`, behind the faults of `faults.py`."""

from __future__ import annotations

import logging
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message

from devnet.chain import Chain
from devnet.faults import Door, Dropped, Faults
from devnet.queries import HEIGHT_HEADER, METHODS, Method, QueryError
from hashfleet.errors import HashfleetError, InvalidInput

logger = logging.getLogger(__name__)

#: Larger than any transaction; larger requests are RESOURCE_EXHAUSTED before they reach us.
MAX_REQUEST_BYTES = 2 * 1024 * 1024

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only


def make_server(chain: Chain, faults: Faults) -> grpc.aio.Server:
    """A server of the node with these faults, with all services registered, bound to nothing yet."""
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),  # else a second devnet on the same port would share it silently
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ],
    )
    services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for method in METHODS.values():
        services.setdefault(method.service, {})[method.name] = _handler(chain, faults, method)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, handlers) for service, handlers in services.items()]
    )
    return server


def bind(server: grpc.aio.Server, host: str, port: int) -> int:
    """Bind to host:port (0 picks a free one) and return the port. Raises HashfleetError if it is taken."""
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise HashfleetError(f"cannot listen for gRPC on {host}:{port}; is another node using the port?")
    return bound


def _handler(chain: Chain, faults: Faults, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
    async def answer(request: Message, context: Context) -> Message:
        try:
            await faults.arriving(Door.GRPC, method.name)
            view = chain.view(_asked_height(context), faults=faults)
            told = method.answer(view, request)
            await faults.answering(Door.GRPC, method.name)
        except Dropped:  # what a client's library makes of a connection that was lost
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        except QueryError as error:
            await context.abort(error.code, error.message)
        except InvalidInput as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Exception:
            logger.exception("%s failed", method.name)
            await context.abort(grpc.StatusCode.INTERNAL, "internal error of the devnet")
        await context.send_initial_metadata(((HEIGHT_HEADER, str(view.height)),))
        return told

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=method.request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def _asked_height(context: Context) -> int | None:
    """The height that the client wants to read, if it says so. Raises InvalidInput."""
    for key, value in context.invocation_metadata() or ():
        if key == HEIGHT_HEADER:
            return asked_height(value if isinstance(value, str) else value.decode("latin-1"))
    return None


def asked_height(text: str) -> int | None:
    """A height as a header says it; 0 means the latest. Raises InvalidInput."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise InvalidInput(f"{HEIGHT_HEADER} is {text[:40]!a}; it should be a block height")
    return int(text) or None
