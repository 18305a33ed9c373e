"""A node over REST (LCD): one HTTP client, every call time-limited and bounded.

A REST answer tells failures twice, by HTTP status and by gRPC's code in its body, and only the code is believed about
objects: a 404 without it comes from whatever stands before the node, or from a wrong path, and says nothing about what
the chain holds.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import grpc
import httpx2

from coordinator.chain.rest_json import error_of, read_answer
from coordinator.chain.transport import (
    HEIGHT_HEADER,
    MAX_ANSWER_BYTES,
    MAX_CALLS,
    Answer,
    HeightWitness,
    NotServed,
    Query,
    Request,
    failure,
)
from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput

#: The gateway hands gRPC's response metadata on under this prefix; some builds take it off. [unverified which]
_HEIGHT_HEADERS: Final = (HEIGHT_HEADER, f"grpc-metadata-{HEIGHT_HEADER}")
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
#: What an HTTP status says where the body tells no code.
_STATUSES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    409: grpc.StatusCode.ALREADY_EXISTS,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.UNKNOWN,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
#: Turns of the event loop in which calls whose time has passed leave by their own way out.
_TURNS_TO_LEAVE: Final = 3


def parse_rest_url(url: str) -> tuple[str, str]:
    """Read ``http://host:1317`` (also https, ``host:1317``, or with a path before the node's own).

    The URL without a slash at its end, and what errors show of it: no path, because hosted nodes put access tokens
    there. Raises InvalidInput.
    """
    whole = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(whole)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username or parts.password:
        shown = "a URL with a user name" if "@" in url else f"{url[:80]!a}"
        raise InvalidInput(f"the chain's REST URL is {shown}; it should be like http://127.0.0.1:1317")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", "")), parts.netloc


class RestTransport:
    """A `Transport` over the REST server of a node."""

    def __init__(self, url: str, *, timeout: float, root_certificates: bytes | None = None) -> None:
        """Nothing is opened yet. Raises InvalidInput for a URL that cannot be one.

        `timeout` is the limit of each call in seconds; `root_certificates` are PEM, None takes the system's.
        """
        self._url, self._netloc = parse_rest_url(url)
        self._timeout = timeout
        self._root_certificates = root_certificates
        self._turns = asyncio.Semaphore(MAX_CALLS)
        self._http: httpx2.AsyncClient | None = None
        self._closed = False
        #: Time limits of the calls on the wire; closing makes them pass.
        self._limits: set[asyncio.Timeout] = set()

    @property
    def shown(self) -> str:
        """Host and port."""
        return self._netloc

    def open(self) -> None:
        """Make the HTTP client; it connects with the first call."""
        if self._http is not None:
            return
        tls = self._url.startswith("https:")
        verify: ssl.SSLContext | bool = True
        if tls and self._root_certificates is not None:
            verify = ssl.create_default_context(cadata=self._root_certificates.decode("ascii"))
        self._http = httpx2.AsyncClient(
            trust_env=tls, verify=verify, limits=httpx2.Limits(max_connections=MAX_CALLS, keepalive_expiry=60.0)
        )

    async def find(
        self, query: Query[Request, Answer], request: Request, what: str, witness: HeightWitness | None = None
    ) -> Answer | None:
        """Ask by GET or POST; None if the node says that `what` does not exist.

        Raises ChainUnavailable, BadChainAnswer.
        """
        where = f"the node {self.shown}"
        if self._http is None:
            raise ChainUnavailable(f"there is no connection to {where}; connect first")
        body = None if query.body is None else query.body(request)
        try:
            async with self._turns, asyncio.timeout(self._timeout) as limit:
                if self._closed:
                    raise ChainUnavailable(f"the connection to {self.shown} is closed")
                self._limits.add(limit)
                try:
                    response, data = await self._fetch(self._http, f"{self._url}{query.path(request)}", body, what)
                finally:
                    self._limits.discard(limit)
        except (httpx2.HTTPError, OSError, TimeoutError) as error:
            if self._closed:
                raise ChainUnavailable(f"the connection to {self.shown} is closed") from error
            code = grpc.StatusCode.DEADLINE_EXCEEDED if _late(error) else grpc.StatusCode.UNAVAILABLE
            told = failure(code, f"{type(error).__name__} {error}".strip(), where, what, self._timeout)
            assert told is not None
            raise told from error
        if response.status_code == httpx2.codes.OK:
            if witness is not None:
                witness.saw(value for name in _HEIGHT_HEADERS for value in response.headers.get_list(name))
            return read_answer(data, query.answer, where, what)
        self._check_missing(response.status_code, data, where, what)
        return None

    async def _fetch(
        self, http: httpx2.AsyncClient, url: str, body: object, what: str
    ) -> tuple[httpx2.Response, bytes]:
        method = "GET" if body is None else "POST"
        async with http.stream(method, url, json=body, timeout=self._timeout) as response:
            data = bytearray()
            async for part in response.aiter_bytes():
                data += part
                if len(data) > MAX_ANSWER_BYTES:
                    raise BadChainAnswer(
                        f"the node {self.shown} answers about {what} with more than {MAX_ANSWER_BYTES} bytes"
                    )
            return response, bytes(data)

    def _check_missing(self, status: int, data: bytes, where: str, what: str) -> None:
        """Raise what the answer stands for, unless it says that `what` does not exist."""
        number, text = error_of(data)
        code = _CODES[number] if number is not None else _STATUSES.get(status)
        if code is None and status == httpx2.codes.NOT_FOUND:
            raise NotServed(f"{where} does not serve {what} (HTTP status 404); is it the REST URL of a structsd node?")
        if code is None:
            raise ChainUnavailable(f"{where} does not tell {what} (HTTP status {status})")
        if told := failure(code, text, where, what, self._timeout):
            raise told

    async def close(self) -> None:
        """Close the client; calls on the wire end at once."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for limit in self._limits:
            limit.reschedule(now)
        for _ in range(_TURNS_TO_LEAVE):
            await asyncio.sleep(0)
        if self._http is not None:
            await self._http.aclose()


def _late(error: Exception) -> bool:
    return isinstance(error, TimeoutError | httpx2.TimeoutException)
