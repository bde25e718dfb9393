"""What uvicorn's protocols lack: bounds on how much a client may send, and for how long, before its request is there.

No middleware can do this: the application first hears of a request when its headers are complete.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_HEADER_BYTES = 1 << 16
"""Most bytes of one request's URL, headers and trailers together; nginx takes 40 KiB, Node.js 16 KiB."""
_UVICORNS_KEEPALIVE_S = 5
"""By default. Clients and proxies keep a connection for longer, and meet its end while they send the next request."""
_LINGER_S = 5.0
"""How long a refused client may go on sending, to nobody, before it is cut off."""

_log = structlog.stdlib.get_logger(__name__)


def guard_connections(server: uvicorn.Server, *, header_timeout_s: float, keepalive_timeout_s: float) -> None:
    """Bound what the clients of `server` may send before the application hears of their requests.

    They have `header_timeout_s` to send what comes before a body, and `keepalive_timeout_s` from one request to the
    next, unless uvicorn was told another time. Call it before the server listens, as while the application starts: uvicorn asks its configuration for the protocol
    at each new connection. So this works however uvicorn was started.
    """
    config = server.config
    if not config.loaded:
        # It does not run: there is nobody to guard it against.
        return
    if config.timeout_keep_alive == _UVICORNS_KEEPALIVE_S:
        # It only ever goes to `loop.call_later`.
        config.timeout_keep_alive = cast("int", keepalive_timeout_s)
    if config.ws_protocol_class is WebSocketsSansIOProtocol:
        config.ws_protocol_class = AnsweringWebSocketProtocol
    if config.http_protocol_class is not HttpToolsProtocol:
        _log.warning("headers are not bounded by us: that is done for --http httptools alone")
        return
    # uvicorn only calls it.
    limited = cast("type[asyncio.Protocol]", partial(LimitedHttpProtocol, header_timeout_s=header_timeout_s))
    config.http_protocol_class = limited


class Refusal(NamedTuple):
    """What a client hears whose request never reaches the application."""

    status: HTTPStatus
    code: str
    message: str

    def serialized(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """The whole answer, as it goes over the wire."""
        body = json.dumps({"error": {"code": self.code, "message": self.message}}).encode()
        headers = [
            *default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}".encode()]
        lines += [name + b": " + value for name, value in headers]
        return b"\r\n".join((*lines, b"", body))


# By numbers: the names of both changed in Python 3.13.
URL_TOO_LONG = Refusal(HTTPStatus(414), "url_too_long", f"A URL may have at most {_HEADER_BYTES} bytes.")
HEADERS_TOO_LARGE = Refusal(
    HTTPStatus(431), "headers_too_large", f"The headers of a request may have at most {_HEADER_BYTES} bytes."
)
HEADERS_TOO_SLOW = Refusal(
    HTTPStatus.REQUEST_TIMEOUT, "header_timeout", "The headers of the request did not come in time."
)
INVALID_HANDSHAKE = Refusal(HTTPStatus.BAD_REQUEST, "invalid_handshake", "This is no WebSocket handshake.")
INVALID_HTTP = Refusal(HTTPStatus.BAD_REQUEST, "invalid_http", "This is no HTTP request.")


class _TooLargeError(Exception):
    """Stops the parser."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP on httptools, for clients that cannot be trusted to come to an end.

    httptools keeps a header until it is complete, and uvicorn keeps all of them, however much that is. Beyond 64 KiB
    they are refused here: exactly, where headers are complete; and where one is not, at the latest when so much of it
    has come after the piece in which it began.

    Nor has uvicorn a limit of time for any of this, but one for silence between two requests, which a single byte
    calls off. Here a connection may be without a request that the application works on for `header_timeout_s`, counted
    from its beginning, and then from the first byte after an answer.
    """

    def __init__(self, *, header_timeout_s: float, **uvicorns: Any) -> None:
        """Serve one connection, with what uvicorn gives its own protocol."""
        super().__init__(**uvicorns)
        self._header_timeout_s = header_timeout_s
        self._clock: asyncio.TimerHandle | None = None
        self._is_silent = True
        """Whether nothing has come yet."""
        self._in_headers = False
        """Whether a request has begun of which the application cannot hear yet."""
        self._header_bytes = 0
        """Of the request that is being parsed."""
        self._unparsed_bytes = 0
        """What came since the parser last had something to tell."""
        self._done = False
        """Whether nothing that comes is parsed any more."""

    # What the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the application know."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the next piece."""
        if self._done:
            # It goes on sending: closing now would reset the connection, and lose the answer.
            return
        self._is_silent = False
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > _HEADER_BYTES:
            self._refuse(HEADERS_TOO_LARGE)
        self._watch()

    # What the parser calls

    def on_message_begin(self) -> None:
        """A request begins."""
        self._header_bytes = 0
        self._in_headers = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """The next part of the URL."""
        self._take(len(url), else_say=URL_TOO_LONG)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after a body in chunks."""
        self._take(len(name) + len(b": ") + len(value) + len(b"\r\n"), else_say=HEADERS_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The application can hear of the request."""
        self._unparsed_bytes = 0
        self._in_headers = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The next part of the body."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of the request has come."""
        self._unparsed_bytes = 0
        super().on_message_complete()

    def _take(self, size_bytes: int, *, else_say: Refusal) -> None:
        self._unparsed_bytes = 0
        self._header_bytes += size_bytes
        if self._header_bytes > _HEADER_BYTES:
            self._refuse(else_say)
            raise _TooLargeError

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the WebSocket protocol."""
        self._done = True
        self._stop_clock()
        super().handle_websocket_upgrade()

    # What runs out

    def _watch(self) -> None:
        if self._done:
            return
        if self._is_answering:
            # From here on it is the application that decides how long it waits.
            self._stop_clock()
        elif self._clock is None:
            self._start_clock(self._header_timeout_s, self._on_timeout)

    def _start_clock(self, seconds: float, when_over: Callable[[], None]) -> None:
        self._stop_clock()
        self._clock = self.loop.call_later(seconds, when_over)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _on_timeout(self) -> None:
        self._clock = None
        if self._in_headers:
            self._refuse(HEADERS_TOO_SLOW)
            return
        # Nothing was asked, or all is answered, and a body comes that nobody reads. Browsers open connections that they
        # may need later.
        level = logging.DEBUG if self._is_silent else logging.INFO
        _log.log(level, "connection closed", code=HEADERS_TOO_SLOW.code, client=self._address)
        self.transport.abort()

    @property
    def _address(self) -> str | None:
        return self.client[0] if self.client else None

    @property
    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    # What uvicorn calls

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser stopped at; `msg` is always the same."""
        _ = msg
        self._refuse(INVALID_HTTP)

    def _refuse(self, refusal: Refusal) -> None:
        if self._done or self.transport.is_closing():
            return
        self._done = True
        self._stop_clock()
        _log.info("connection refused", status=refusal.status.value, code=refusal.code, client=self._address)
        if self._is_answering:
            # Our answer would be taken for that of the request that is being worked on.
            self.transport.abort()
            return
        self.transport.write(refusal.serialized(self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._start_clock(_LINGER_S, self.transport.abort)


class AnsweringWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSockets, which leave no handshake without an answer, and keep no place for a peer that is gone.

    websockets refuses lines over 8 KiB, more than 128 headers, and what is no handshake at all. uvicorn 0.54 does not
    look at that: the client waits for ever, and at the shutdown an answer to it fails and takes the rest with it.

    uvicorn takes a peer for dead whose pong is late, though we may be the ones who do not read: a client that sends
    faster than the model transcribes is made to wait, and its pongs wait behind its audio. Here only a peer is dead of
    which nothing at all has come for `ws_ping_timeout` while we read.
    """

    _heard_at_s = 0.0

    def data_received(self, data: bytes) -> None:
        """Parse the next piece."""
        self._heard_at_s = self.loop.time()
        super().data_received(data)
        if self.handshake_initiated or self.conn.handshake_exc is None or self.close_sent:
            return
        # As uvicorn does where it hears of a refusal.
        self.handshake_complete = self.close_sent = True
        # websockets has an answer of its own to what is too large, and none to what it cannot read.
        answer = b"".join(self.conn.data_to_send()) or INVALID_HANDSHAKE.serialized(self.default_headers)
        # Only the name: the message may quote a header.
        reason = type(self.conn.handshake_exc).__name__
        client = self.client[0] if self.client else None
        status = int(answer.split(maxsplit=2)[1])
        _log.info("connection refused", status=status, code=INVALID_HANDSHAKE.code, reason=reason, client=client)
        self.transport.write(answer)
        self.transport.close()

    async def receive(self) -> Any:
        """The next message; where the peer was made to wait for that, what it sent meanwhile is read only now."""
        was_paused = self.read_paused
        message = await super().receive()
        if was_paused and not self.read_paused:
            self._heard_at_s = self.loop.time()
        return message

    def keepalive_timeout(self) -> None:
        """No pong has come in time: see whether the peer is dead."""
        assert self.ping_timeout is not None  # noqa: S101
        silent_s = 0.0 if self.read_paused else self.loop.time() - self._heard_at_s
        if silent_s < self.ping_timeout and not self.transport.is_closing():
            self.pong_timer = self.loop.call_later(self.ping_timeout - silent_s, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        # It would wait until the peer has taken what was sent to it.
        self.transport.abort()
