"""How much may come in, how fast, and how many at once. Pure ASGI."""

import asyncio
import codecs
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias, get_args

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ....domain.errors import InvalidRequestError, OverloadedError, ServiceError, UploadTooLargeError
from .error_responses import error_response, refuse
from .errors import UploadStalledError, UploadTimeoutError, UploadTooSlowError
from .http_metrics import HttpMetrics
from .request_context import note
from .route_path import route_path

_RETRY_AFTER_S = 5.0
LINGER_S = 5.0
"""How long a refused client may go on sending, to nobody, before it is cut off."""
_CHARSETS = frozenset({"utf-8", "ascii"})
_SMALL_BYTES = 1 << 20
"""Largest body that is no form: it is kept in memory, and nobody counts how many there are."""


_Failure: TypeAlias = UploadTooLargeError | UploadStalledError | UploadTooSlowError | UploadTimeoutError


@dataclass(frozen=True, slots=True)
class UploadPace:
    """How slowly a client may send; only the time counts in which the server waits for it.

    Attributes:
        longest_pause_s: How long it may send nothing.
        least_bytes_per_s: What it must send on average, once it has been waited for for `longest_pause_s`; so an upload
            may stall at once and still catch up.
        longest_s: How long all of it may take.
    """

    longest_pause_s: float
    least_bytes_per_s: float
    longest_s: float

    def patience(self, *, received_bytes: int, waited_s: float) -> tuple[float, _Failure]:
        """How long to wait for the next piece, in seconds, and what is wrong if none has come by then."""
        ends: list[tuple[float, _Failure]] = [
            (self.longest_pause_s, UploadStalledError(limit_s=self.longest_pause_s)),
            (self.longest_s - waited_s, UploadTimeoutError(limit_s=self.longest_s)),
        ]
        if self.least_bytes_per_s:
            earned_s = self.longest_pause_s + received_bytes / self.least_bytes_per_s
            ends.append((earned_s - waited_s, UploadTooSlowError(limit_bytes_per_s=self.least_bytes_per_s)))
        return min(ends, key=lambda end: end[0])


class UploadLimitMiddleware:
    """Receives uploads: what is wrong with one is found as early as it can be, and the client hears of it.

    A recording is kept in memory up to 1 MiB, and in an unlinked temporary file beyond. It has a place from its first byte
    to its answer, so that neither memory nor disk depend on how many clients there are. Whoever finds no place, or no
    model, is turned away before anything is read.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit_bytes: int,
        most: Callable[[], int],
        pace: UploadPace,
        raw_paths: Collection[str] = (),
        check_ready: Callable[[], object],
        metrics: HttpMetrics,
        linger_s: float = LINGER_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Guard `app`.

        Args:
            app: What comes next.
            limit_bytes: Largest recording, be it a form or a raw body; other bodies may have 1 MiB.
            most: Says how many recordings may have a place at once; asked once the model is ready.
            pace: How slowly a client may send.
            raw_paths: Where a body is a recording, or JSON that names one.
            check_ready: Raises a `ServiceError` if recordings cannot be read now.
            metrics: Hears how many there are.
            linger_s: How long a refused client may go on sending, to nobody, before it is cut off.
            clock: Tells the time, in seconds.
        """
        self._app = app
        self._limit = limit_bytes
        self._most = most
        self._pace = pace
        self._raw_paths = frozenset(raw_paths)
        self._check_ready = check_ready
        self._metrics = metrics
        self._linger_s = linger_s
        self._clock = clock
        self._held = 0
        self._receiving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application on a body that is watched as it comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        kind = headers.get("content-type", "")
        is_form = kind.lower().startswith("multipart/form-data")
        # JSON names a recording that is fetched: it needs a place, but no room.
        is_named = kind.lower().startswith("application/json")
        is_recording = is_form or route_path(scope) in self._raw_paths
        limit = self._limit if is_recording and not is_named else min(self._limit, _SMALL_BYTES)
        try:
            if declared.isdecimal() and int(declared) > limit:
                raise UploadTooLargeError(limit_bytes=limit)
            if is_form:
                _check_charset(kind)
            if is_recording:
                self._check_ready()
                most = self._most()
                if self._held >= most:
                    message = f"Too many uploads: {most} are in progress."
                    raise OverloadedError(message, retry_after_s=_RETRY_AFTER_S)
        except ServiceError as error:
            await refuse_unread(error, scope, receive, send, linger_s=self._linger_s)
            return
        body = _Body(receive, limit_bytes=limit, pace=self._pace, clock=self._clock)
        if not is_recording:
            await self._receive(body, scope, receive, send)
            return
        body.on_complete = self._received
        self._count(held=1, receiving=1)
        try:
            await self._receive(body, scope, receive, send)
        finally:
            if body.completed_at is not None:
                note(HTTPConnection(scope), work_ms=round((self._clock() - body.completed_at) * 1000, 1))
            self._count(held=-1, receiving=-1 if body.completed_at is None else 0)

    async def _receive(self, body: "_Body", scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def unless_refused(message: Message) -> None:
            # A form parser may turn our error into an answer of its own: ours is the one that is sent.
            nonlocal answered
            if body.failure is None or answered:
                answered = True
                await send(message)

        with suppress(*get_args(_Failure)):
            await self._app(scope, body.receive, unless_refused)
        if body.failure is not None and not answered:
            note(HTTPConnection(scope), received_bytes=body.received_bytes)
            await refuse_unread(body.failure, scope, receive, send, linger_s=self._linger_s)

    def _received(self) -> None:
        self._count(held=0, receiving=-1)

    def _count(self, *, held: int, receiving: int) -> None:
        self._held += held
        self._receiving += receiving
        self._metrics.uploads_changed(receiving=self._receiving, held=self._held)


class _Body:
    """The body of one request, watched; `failure` is what is wrong with it."""

    def __init__(self, receive: Receive, *, limit_bytes: int, pace: UploadPace, clock: Callable[[], float]) -> None:
        self._receive = receive
        self._limit = limit_bytes
        self._pace = pace
        self._clock = clock
        self._waited_s = 0.0
        self.received_bytes = 0
        self.completed_at: float | None = None
        """When all of it had come, by the clock."""
        self.failure: _Failure | None = None
        self.on_complete: Callable[[], None] = _nothing

    async def receive(self) -> Message:
        """The next message; once all has come, this waits for the client to leave, however long that takes.

        Raises:
            UploadTooLargeError, UploadStalledError, UploadTooSlowError, UploadTimeoutError: There is too much of it, or
                it does not come as it must.
        """
        if self.failure is not None:
            raise self.failure
        if self.completed_at is not None:
            return await self._receive()
        message = await self._next()
        self.received_bytes += len(message.get("body", b""))
        if self.received_bytes > self._limit:
            self.failure = UploadTooLargeError(limit_bytes=self._limit)
            raise self.failure
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.completed_at = self._clock()
            self.on_complete()
        return message

    async def _next(self) -> Message:
        patience_s, failure = self._pace.patience(received_bytes=self.received_bytes, waited_s=self._waited_s)
        if patience_s <= 0:
            self.failure = failure
            raise failure
        began = self._clock()
        try:
            async with asyncio.timeout(patience_s):
                return await self._receive()
        except TimeoutError as error:
            self.failure = failure
            raise failure from error
        finally:
            self._waited_s += self._clock() - began


def _check_charset(content_type: str) -> None:
    """Let UTF-8 pass alone: some of Python's codecs take the square of a field's length, on the event loop."""
    _, parameters = parse_options_header(content_type)
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1")
    try:
        known = codecs.lookup(charset).name in _CHARSETS
    except (LookupError, ValueError):
        known = False
    if not known:
        raise InvalidRequestError("content-type: the charset of a form must be UTF-8.", param="content-type")


def _nothing() -> None:
    pass


async def refuse_unread(
    error: ServiceError, scope: Scope, receive: Receive, send: Send, *, linger_s: float = LINGER_S
) -> None:
    """Answer with `error`; a request whose body is on its way is read, to nobody, for `linger_s`, and then cut off."""
    if scope["type"] != "http" or not _has_body(scope):
        # Servers raise it for a WebSocket whose client left before it heard.
        with suppress(OSError):
            await refuse(error, scope, receive, send)
        return
    response = error_response(error, scope)
    response.headers["connection"] = "close"
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    # Closing with bytes unread resets the connection, and a client that is still sending may lose the answer.
    with suppress(TimeoutError):
        async with asyncio.timeout(linger_s):
            while (await receive()).get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b""})


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
