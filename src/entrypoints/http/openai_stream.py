"""The text of a recording as it comes, in OpenAI's server-sent events.

A client takes an event of a type that it does not know for one that it knows, so there are no others than OpenAI's:
how far the work is stands in comments, which keep the connection alive, too.

The pieces are FastAPI's, but not its own way to stream, a route that is a generator: that has sent its status before
anything can fail.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeAlias

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from ...application.transcribe_file import Progress
from ...domain.errors import ServiceError
from ...domain.transcript import Transcript
from .openai_answer import json_with
from .openai_schemas import LogprobBody, OpenAIProblemBody, TextDeltaEvent, TextDoneEvent
from .problems import UnexpectedError, openai_error
from .record import note
from .uploads import while_connected

Work: TypeAlias = Callable[[Callable[[Progress], None]], Coroutine[Any, Any, Transcript]]
"""Transcribes, and calls what it is given with the news."""

_News: TypeAlias = Progress | Transcript | None


async def stream_text(request: Request, work: Work, *, logprobs: bool, heartbeat_s: float) -> EventSourceResponse:
    """Begin to answer once there is news, or nothing for `heartbeat_s`; what fails before has a status of its own.

    Raises:
        ServiceError: What `work` raised before there was news.
        ClientDisconnect: The client left before.
    """
    news = _news(work, heartbeat_s)
    (first,) = await while_connected(request, _next(news))
    return _ClosingEventStream(_events(request, first, news, logprobs=logprobs), news)


class _ClosingEventStream(EventSourceResponse):
    """Closes its generators as soon as it ends, however it ends: one that is left to itself ends some time later.

    The news, too: events that were never asked for the first one would not know that there is something to close.
    """

    def __init__(self, events: AsyncGenerator[bytes], news: AsyncGenerator[_News]) -> None:
        super().__init__(events, headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._events = events
        self._news = news

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._news), aclosing(self._events):
            await super().__call__(scope, receive, send)


async def _next(news: AsyncGenerator[_News]) -> tuple[_News]:
    # In a tuple, for `None` would mean that the client has left.
    return (await anext(news),)


async def _news(work: Work, heartbeat_s: float) -> AsyncGenerator[_News]:
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
    request: Request, latest: _News, news: AsyncGenerator[_News], *, logprobs: bool
) -> AsyncGenerator[bytes]:
    sent = 0
    try:
        while not isinstance(latest, Transcript):
            if latest is None:
                yield KEEPALIVE_COMMENT
            elif latest.finalized:
                yield _event(TextDeltaEvent.of(latest.finalized, first=not sent, logprobs=logprobs))
                sent += len(latest.finalized)
            else:
                yield format_sse_event(comment=f"{latest.done_s:.1f} s read")
            latest = await anext(news)
        note(request, audio_s=round(latest.duration_s, 3))
        if rest := latest.words[sent:]:
            yield _event(TextDeltaEvent.of(rest, first=not sent, logprobs=logprobs))
        yield await asyncio.to_thread(_done, latest, logprobs=logprobs)
    except ServiceError as error:
        note(request, code=error.code)
        yield _event(OpenAIProblemBody(error=openai_error(error)))
    except (asyncio.CancelledError, GeneratorExit):
        note(request, code="client_gone")
        raise
    except Exception:
        # The client hears of it here, for the answer has begun; the log hears of it where all such errors end.
        yield _event(OpenAIProblemBody(error=openai_error(UnexpectedError())))
        raise


def _done(transcript: Transcript, *, logprobs: bool) -> bytes:
    tokens = LogprobBody.all_of(transcript.words) if logprobs else None
    return format_sse_event(data_str=json_with(TextDoneEvent.of(transcript), logprobs=tokens))


def _event(body: BaseModel) -> bytes:
    # An error's `param` is null, not absent.
    return format_sse_event(data_str=body.model_dump_json(exclude_none=not isinstance(body, OpenAIProblemBody)))
