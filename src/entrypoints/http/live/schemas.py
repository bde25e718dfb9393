"""The messages of the live protocol at ``/ws``."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ....application.ports.speech_model import ModelDescription
from ....application.stream_session import LiveOptions
from ....domain.audio import Encoding
from ....domain.errors import InvalidRequestError, RetryLaterError, ServiceError
from ....domain.languages import code_of
from ....domain.live import Cleared, Final, LiveEvent, Partial, SpeechStarted, SpeechStopped
from ....domain.transcript import Word
from ..guards.errors import ProtocolError
from ..guards.websocket_gateway import JsonObject

FRAME_BYTES = 1 << 20
"""Largest message that a client may send."""


class _Command(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ConfigCommand(_Command):
    """What the client wants of its session; the first message, or none."""

    type: Literal["config"]
    sample_rate: int | None = None
    encoding: Encoding | None = None
    language: str | None = None
    words: bool | None = None
    left_context_s: float | None = None
    chunk_s: float | None = None
    right_context_s: float | None = None
    endpoint_silence_ms: int | None = Field(default=None, ge=100, le=60_000)

    def options(self, defaults: LiveOptions) -> LiveOptions:
        """What was asked for; the rest as by default."""
        context = defaults.context
        return LiveOptions(
            encoding=defaults.encoding if self.encoding is None else self.encoding,
            sample_rate_hz=defaults.sample_rate_hz if self.sample_rate is None else self.sample_rate,
            language=code_of(self.language or "") or None,
            context=replace(
                context,
                left_s=context.left_s if self.left_context_s is None else self.left_context_s,
                chunk_s=context.chunk_s if self.chunk_s is None else self.chunk_s,
                right_s=context.right_s if self.right_context_s is None else self.right_context_s,
            ),
            endpointing=defaults.endpointing
            if self.endpoint_silence_ms is None
            else replace(defaults.endpointing, silence_s=self.endpoint_silence_ms / 1000),
        )


class FinalizeCommand(_Command):
    """Say what you have, and go on."""

    type: Literal["finalize"]


class ClearCommand(_Command):
    """Forget what I said since your last final."""

    type: Literal["clear"]


class KeepaliveCommand(_Command):
    """I am still here."""

    type: Literal["keepalive"]


class CloseCommand(_Command):
    """Say what you have, and close."""

    type: Literal["close"]


Command: TypeAlias = ConfigCommand | FinalizeCommand | ClearCommand | KeepaliveCommand | CloseCommand
_COMMANDS: Mapping[str, type[BaseModel]] = {
    "config": ConfigCommand,
    "finalize": FinalizeCommand,
    "clear": ClearCommand,
    "keepalive": KeepaliveCommand,
    "close": CloseCommand,
}
_KNOWN = ", ".join(_COMMANDS)
_COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="type")])


def read_command(text: str) -> Command:
    """What the client said.

    Raises:
        ProtocolError: It is no JSON object, no command that we know, or has a field that we do not know.
        InvalidRequestError: A field's value cannot be used.
    """
    try:
        return _COMMAND.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # The first part of the place is the command's name.
        command, field = first["loc"][:1], ".".join(str(part) for part in first["loc"][1:])
        if not field:
            raise ProtocolError(_misunderstood(text)) from error
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(set(_fields(str(command[0]))) - {"type"})) or "no other field than type"
            raise ProtocolError(f"{command[0]} has no field {field!r}; it takes {known}.", param=field) from error
        raise InvalidRequestError(f"{field}: {first['msg']}", param=field) from error


def _misunderstood(text: str) -> str:
    try:
        said: object = json.loads(text)
    except ValueError:
        return f"A text message must be a command in JSON: {_KNOWN}. Audio is sent in binary messages."
    if not isinstance(said, dict) or "type" not in said:
        return f"A command is a JSON object with a type: {_KNOWN}."
    return f"Unknown command {str(cast('JsonObject', said)['type'])[:40]!r}; there are: {_KNOWN}."


def _fields(command: str) -> Iterable[str]:
    return _COMMANDS[command].model_fields


def event_message(event: LiveEvent, *, words: bool) -> JsonObject:
    """The message for an event; `words` adds the words to a partial, a final always has them."""
    match event:
        case SpeechStarted():
            return {"type": "speech_started", "at": _seconds(event.at_s)}
        case SpeechStopped():
            return {"type": "speech_stopped", "at": _seconds(event.at_s)}
        case Partial():
            message: JsonObject = {"type": "partial", "text": event.text, "draft": event.draft_text}
            message |= _span(event.words)
            if words:
                message["words"] = _words(event.words)
            return message | {"lag_ms": round(event.behind_s * 1000)}
        case Final():
            message = {"type": "final", "text": event.text, **_span(event.words)}
            return message | {"words": _words(event.words), "utterance": event.utterance}
        case Cleared():
            return {"type": "cleared"}


def limits_message(model: ModelDescription) -> JsonObject:
    """What a client must know to stay within bounds; contexts and chunk must fit into `window_s`."""
    return {
        "frame_bytes": FRAME_BYTES,
        "window_s": model.max_window_s,
        "encodings": [encoding.value for encoding in Encoding],
        "languages": list(model.languages),
    }


def error_message(error: ServiceError) -> JsonObject:
    """The message for what the client did wrong, and before a close that it did not ask for."""
    message: JsonObject = {"type": "error", "code": error.code, "message": error.message}
    message |= {name: value for name, value in error.details.items() if value is not None and name != "retry_after_s"}
    if isinstance(error, RetryLaterError):
        message["retry_after_ms"] = round(error.retry_after_s * 1000)
    return message


def _span(words: Sequence[Word]) -> JsonObject:
    """From the first word's start to the last one's end; ``null`` where nothing was said."""
    if not words:
        return {"start": None, "end": None}
    return {"start": _seconds(words[0].start_s), "end": _seconds(words[-1].end_s)}


def _words(words: Sequence[Word]) -> list[JsonObject]:
    return [{"text": word.text, "start": _seconds(word.start_s), "end": _seconds(word.end_s)} for word in words]


def _seconds(seconds: float) -> float:
    return round(seconds, 3)
