"""The news of a recording while it is being read, as server-sent events.

The pieces are FastAPI's, but not its own way to stream, a route that is a generator: that has sent its status before
anything can fail.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, TypeAlias

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from ....application.transcribe_file import Progress
from ....domain.errors import ServiceError
from ....domain.transcript import Transcript
from ..guards.error_responses import UnexpectedError
from ..guards.request_context import note
from .uploads import while_connected

DOCUMENTED_EVENTS: dict[str, Any] = {
    "itemSchema": {
        "type": "object",
        "properties": {"data": {"type": "string", "contentMediaType": "application/json"}},
        "required": ["data"],
    }
}
"""For the documentation: the content of an answer that is a stream of events; as FastAPI writes it."""

Work: TypeAlias = Callable[[Callable[[Progress], None]], Coroutine[Any, Any, Transcript]]
"""Transcribes, and calls what it is given with the news."""

_Update: TypeAlias = Progress | Transcript | None


class EventEncoder(Protocol):
    """How one answer words its events; each method gives whole events, ready to be sent."""

    def progress(self, news: Progress) -> bytes:
        """What a window told."""
        ...

    def done(self, transcript: Transcript) -> bytes:
        """The end; takes long for hours of audio, so it is called in a thread."""
        ...

    def failed(self, error: ServiceError) -> bytes:
        """The end, if it is a bad one."""
        ...


async def stream_events(
    request: Request, work: Work, telling: EventEncoder, *, heartbeat_s: float
) -> EventSourceResponse:
    """Begin to answer once there is news, or nothing for `heartbeat_s`; what fails before has a status of its own.

    Raises:
        ServiceError: What `work` raised before there was news.
        ClientDisconnect: The client left before.
    """
    news = _news(work, heartbeat_s)
    (first,) = await while_connected(request, _next(news))
    return _ClosingEventStream(_events(request, first, news, telling), news)


class _ClosingEventStream(EventSourceResponse):
    """Closes its generators as soon as it ends, however it ends: one that is left to itself ends some time later.

    The news, too: events that were never asked for the first one would not know that there is something to close.
    """

    def __init__(self, events: AsyncGenerator[bytes], news: AsyncGenerator[_Update]) -> None:
        super().__init__(events, headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._events = events
        self._news = news

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._news), aclosing(self._events):
            await super().__call__(scope, receive, send)


async def _next(news: AsyncGenerator[_Update]) -> tuple[_Update]:
    # In a tuple, for `None` would mean that the client has left.
    return (await anext(news),)


async def _news(work: Work, heartbeat_s: float) -> AsyncGenerator[_Update]:
    """What `work` tells and at last gives; ``None`` after each `heartbeat_s` without."""
    told = asyncio.Queue[Progress | None]()
    working = asyncio.create_task(work(told.put_nowait))
    working.add_done_callback(lambda _: told.put_nowait(None))
    try:
        while True:
            try:
                async with asyncio.timeout(heartbeat_s):
                    progress = await told.get()
            except TimeoutError:
                yield None
                continue
            if progress is None:
                yield working.result()
                return
            yield progress
    finally:
        working.cancel()
        # What was cancelled lets go of what it holds before the request ends.
        await asyncio.gather(working, return_exceptions=True)


async def _events(
    request: Request, latest: _Update, news: AsyncGenerator[_Update], telling: EventEncoder
) -> AsyncGenerator[bytes]:
    try:
        while not isinstance(latest, Transcript):
            yield KEEPALIVE_COMMENT if latest is None else telling.progress(latest)
            latest = await anext(news)
        note(request, audio_s=round(latest.duration_s, 3))
        yield await asyncio.to_thread(telling.done, latest)
    except ServiceError as error:
        note(request, code=error.code)
        yield telling.failed(error)
    except (asyncio.CancelledError, GeneratorExit):
        note(request, code="client_gone")
        raise
    except Exception:
        # The client hears of it here, for the answer has begun; the log hears of it where all such errors end.
        yield telling.failed(UnexpectedError())
        raise
