"""What uvicorn's protocols lack: a bound on how much a client may send before its request can be looked at.

No middleware can do this: the application first hears of a request when its headers are complete.
"""

import json
from http import HTTPStatus
from typing import Any, NamedTuple

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEADER_BYTES = 1 << 16
"""Most bytes of one request's URL, headers and trailers together; nginx takes 40 KiB, Node.js 16 KiB."""
_LINGER_S = 5.0

_log = structlog.stdlib.get_logger(__name__)


def guard_connections(server: uvicorn.Server) -> None:
    """Bound what the clients of `server` may send before the application hears of their requests.

    Call it before the server listens, as while the application starts: uvicorn asks its configuration for the protocol
    at each new connection. So this works however uvicorn was started.
    """
    config = server.config
    if not config.loaded:
        # It does not run: there is nobody to guard it against.
        return
    if config.http_protocol_class is not HttpToolsProtocol:
        _log.warning("headers are not bounded by us: that is done for --http httptools alone")
        return
    config.http_protocol_class = LimitedHttpProtocol


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
INVALID_HTTP = Refusal(HTTPStatus.BAD_REQUEST, "invalid_http", "This is no HTTP request.")


class _TooLargeError(Exception):
    """Stops the parser."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP on httptools, for clients that cannot be trusted to come to an end.

    httptools keeps a header until it is complete, and uvicorn keeps all of them, however much that is. Beyond 64 KiB
    they are refused here: exactly, where headers are complete; and where one is not, at the latest when so much of it
    has come after the piece in which it began.
    """

    def __init__(self, **uvicorns: Any) -> None:
        """Serve one connection, with what uvicorn gives its own protocol."""
        super().__init__(**uvicorns)
        self._header_bytes = 0
        """Of the request that is being parsed."""
        self._unparsed_bytes = 0
        """What came since the parser last had something to tell."""
        self._done = False
        """Whether nothing that comes is parsed any more."""

    # What the transport calls

    def data_received(self, data: bytes) -> None:
        """Parse the next piece."""
        if self._done:
            # It goes on sending: closing now would reset the connection, and lose the answer.
            return
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > _HEADER_BYTES:
            self._refuse(HEADERS_TOO_LARGE)

    # What the parser calls

    def on_message_begin(self) -> None:
        """A request begins."""
        self._header_bytes = 0
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
        client = self.client[0] if self.client else None
        _log.info("connection refused", status=refusal.status.value, code=refusal.code, client=client)
        if self._is_answering:
            # Our answer would be taken for that of the request that is being worked on.
            self.transport.abort()
            return
        self.transport.write(refusal.serialized(self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.abort)
