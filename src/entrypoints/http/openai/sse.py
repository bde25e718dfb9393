"""The text of a recording as it comes, in OpenAI's server-sent events.

A client takes an event of a type that it does not know for one that it knows, so there are no others than OpenAI's:
how far the work is stands in comments, which keep the connection alive, too.
"""

from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel
from starlette.requests import Request

from ....application.transcribe_file import Progress
from ....domain.errors import ServiceError
from ....domain.transcript import Transcript
from ..guards.error_responses import openai_error
from ..guards.error_schemas import OpenAIProblemBody
from ..recordings.event_stream import Work, stream_events
from .response import json_with
from .schemas import LogprobBody, TextDeltaEvent, TextDoneEvent


async def stream_text(request: Request, work: Work, *, logprobs: bool, heartbeat_s: float) -> EventSourceResponse:
    """Begin to answer with deltas that add up to the text; raises what `stream_events` does."""
    return await stream_events(request, work, _Deltas(logprobs=logprobs), heartbeat_s=heartbeat_s)


class _Deltas:
    """OpenAI's events for one recording."""

    def __init__(self, *, logprobs: bool) -> None:
        self._logprobs = logprobs
        self._sent = 0

    def progress(self, news: Progress) -> bytes:
        if not news.finalized:
            return format_sse_event(comment=f"{news.done_s:.1f} s read")
        delta = TextDeltaEvent.of(news.finalized, first=not self._sent, logprobs=self._logprobs)
        self._sent += len(news.finalized)
        return _event(delta)

    def done(self, transcript: Transcript) -> bytes:
        rest = transcript.words[self._sent :]
        delta = _event(TextDeltaEvent.of(rest, first=not self._sent, logprobs=self._logprobs)) if rest else b""
        tokens = LogprobBody.all_of(transcript.words) if self._logprobs else None
        return delta + format_sse_event(data_str=json_with(TextDoneEvent.of(transcript), logprobs=tokens))

    def failed(self, error: ServiceError) -> bytes:
        return _event(OpenAIProblemBody(error=openai_error(error)))


def _event(body: BaseModel) -> bytes:
    # An error's `param` is null, not absent.
    return format_sse_event(data_str=body.model_dump_json(exclude_none=not isinstance(body, OpenAIProblemBody)))
