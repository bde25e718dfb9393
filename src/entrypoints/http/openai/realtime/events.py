"""What a client hears. Clients take an event of a type that they do not know for one that they know: none is ours."""

import uuid
from collections.abc import Iterable

from .....domain.errors import RetryLaterError, ServiceError
from .....domain.transcript import Word, join_words
from ...guards.error_responses import openai_error
from ...guards.websocket_gateway import JsonObject
from ..schemas import LogprobBody


def new_id(kind: str) -> str:
    """An identifier that no other thing has, such as ``item_...``."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"


def event(kind: str, **fields: object) -> JsonObject:
    """An event of the type `kind`."""
    return {"type": kind, "event_id": new_id("event"), **fields}


def error_event(error: ServiceError, *, cause: str | None = None) -> JsonObject:
    """Something went wrong; `cause` is the `event_id` of the client's event, where it has one."""
    told = openai_error(error)
    if isinstance(error, RetryLaterError):
        told.message += f" Try again in {error.retry_after_s:.0f} s."
    return event("error", error=told.model_dump() | {"event_id": cause})


def transcription_event(kind: str, item_id: str, **fields: object) -> JsonObject:
    """News of an item's text; its audio is its only content."""
    return event(f"conversation.item.input_audio_transcription.{kind}", item_id=item_id, content_index=0, **fields)


def delta_event(item_id: str, words: Iterable[Word], *, first: bool, logprobs: bool) -> JsonObject:
    """More words of an item, which never change again, with a space before them unless they are the `first`."""
    words = tuple(words)
    more: JsonObject = {"logprobs": _logprobs(words)} if logprobs else {}
    return transcription_event("delta", item_id, delta=("" if first else " ") + join_words(words), **more)


def completed_event(
    item_id: str, words: Iterable[Word], *, seconds: float, language: str | None, logprobs: bool
) -> JsonObject:
    """All words of an item, of so many seconds of audio."""
    words = tuple(words)
    more: JsonObject = {"logprobs": _logprobs(words)} if logprobs else {}
    if language is not None:
        more["languages"] = [{"code": language}]
    usage = {"type": "duration", "seconds": round(max(seconds, 0.0), 3)}
    return transcription_event("completed", item_id, transcript=join_words(words), usage=usage, **more)


def item_event(kind: str, item_id: str, *, previous: str | None) -> JsonObject:
    """News of an item: a user's message that is audio. As with OpenAI, its text comes in events of its own."""
    item: JsonObject = {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }
    return event(f"conversation.item.{kind}", previous_item_id=previous, item=item)


def _logprobs(words: Iterable[Word]) -> list[JsonObject]:
    return [one.model_dump() for one in LogprobBody.all_of(words)]
