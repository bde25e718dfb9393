"""What clients ask of a session, and what they say in it; fields that we do not know are ignored."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import BaseModel, Discriminator, Field, Tag, TypeAdapter, ValidationError
from pydantic_core import from_json

from .....domain.endpointing import Endpointing
from .....domain.errors import InvalidRequestError
from ...guards.errors import ProtocolError
from ...guards.websocket_gateway import JsonObject
from ..request import Milliseconds, Threshold

FRAME_BYTES = 16 << 20
"""Largest message of a client."""
MOST_BASE64 = 15 << 20
"""Largest audio of one append, in characters of base64, as OpenAI has it."""
LOGPROBS = "item.input_audio_transcription.logprobs"

Delay: TypeAlias = Literal["minimal", "low", "medium", "high", "xhigh"]
Eagerness: TypeAlias = Literal["low", "medium", "high", "auto"]


class Pcm(BaseModel):
    """16-bit samples, little-endian, mono; OpenAI knows 24 kHz alone."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[8000, 16000, 24000, 48000] = 24000


class Mulaw(BaseModel):
    """G.711 mu-law at 8 kHz."""

    type: Literal["audio/pcmu"] = "audio/pcmu"


class Alaw(BaseModel):
    """G.711 A-law at 8 kHz."""

    type: Literal["audio/pcma"] = "audio/pcma"


def _type_or(default: str) -> Discriminator:
    """What kind an object is that need not say it."""

    def of(value: object) -> object:
        return (
            cast("JsonObject", value).get("type", default) if isinstance(value, dict) else getattr(value, "type", None)
        )

    return Discriminator(of)


AudioFormat: TypeAlias = Annotated[
    Annotated[Pcm, Tag("audio/pcm")] | Annotated[Mulaw, Tag("audio/pcmu")] | Annotated[Alaw, Tag("audio/pcma")],
    _type_or("audio/pcm"),
]


class ServerVad(BaseModel):
    """A turn ends after so much silence; the times by default are OpenAI's, the threshold is our detector's."""

    type: Literal["server_vad"] = "server_vad"
    threshold: Threshold = Endpointing().threshold
    prefix_padding_ms: Milliseconds = 300
    silence_duration_ms: Milliseconds = 500
    idle_timeout_ms: Annotated[int | None, Field(ge=500, le=3_600_000)] = None


class SemanticVad(BaseModel):
    """A turn ends sooner where the words read as a finished sentence."""

    type: Literal["semantic_vad"] = "semantic_vad"
    eagerness: Eagerness = "auto"


TurnDetection: TypeAlias = Annotated[
    Annotated[ServerVad, Tag("server_vad")] | Annotated[SemanticVad, Tag("semantic_vad")], _type_or("server_vad")
]


class Transcription(BaseModel):
    """What the text is to be; `prompt` would have no effect, and so is not even kept."""

    model: str | None = None
    language: str | None = None
    languages: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    delay: Delay | None = None


class AudioInput(BaseModel):
    """The audio that comes; `noise_reduction` would have no effect."""

    format: AudioFormat = Pcm()
    transcription: Transcription = Transcription()
    turn_detection: TurnDetection | None = ServerVad()


class Audio(BaseModel):
    """There is no output."""

    input: AudioInput = AudioInput()


class SessionRequest(BaseModel):
    """A transcription session, in the words of the GA protocol."""

    type: Literal["transcription"] = "transcription"
    audio: Audio = Audio()
    include: tuple[str, ...] = ()


ShortId: TypeAlias = Annotated[str, Field(max_length=512)]
"""A name that the client gives, and hears again; OpenAI's have the same limit."""


class _Event(BaseModel):
    event_id: ShortId | None = None


class SessionUpdate(_Event):
    """Change the session; what is left out stays as it is."""

    type: Literal["session.update", "transcription_session.update"]
    session: dict[str, Any]


class Append(_Event):
    """More audio."""

    type: Literal["input_audio_buffer.append"]
    audio: str


class Commit(_Event):
    """The turn ends here."""

    type: Literal["input_audio_buffer.commit"]


class Clear(_Event):
    """Forget the audio since the last turn."""

    type: Literal["input_audio_buffer.clear"]


class DeleteItem(_Event):
    """Forget an item; this service keeps none."""

    type: Literal["conversation.item.delete"]
    item_id: ShortId


class Unsupported(_Event):
    """What OpenAI's protocol has, and a transcription session here has no use for."""

    type: Literal[
        "conversation.item.create",
        "conversation.item.retrieve",
        "conversation.item.truncate",
        "output_audio_buffer.clear",
        "response.cancel",
        "response.create",
    ]


ClientEvent: TypeAlias = SessionUpdate | Append | Commit | Clear | DeleteItem | Unsupported
_EVENT: TypeAdapter[ClientEvent] = TypeAdapter(Annotated[ClientEvent, Field(discriminator="type")])


def read_json(data: str | bytes) -> JsonObject:
    """What a message has in it, be it an event or not.

    Raises:
        ProtocolError: It is no JSON object.
    """
    if isinstance(data, bytes):
        raise ProtocolError("Events are JSON text; send audio with input_audio_buffer.append.")
    try:
        event: object = from_json(data)
    except ValueError as error:
        raise ProtocolError("The message is not valid JSON.") from error
    if not isinstance(event, dict):
        raise ProtocolError("An event must be a JSON object.")
    return cast("JsonObject", event)


def read_event(event: JsonObject) -> ClientEvent:
    """The event.

    Raises:
        ProtocolError: There is no such event.
        InvalidRequestError: A field of it cannot be read.
    """
    try:
        return _EVENT.validate_python(event)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"].startswith("union_tag"):
            raise ProtocolError(f"Unknown event type {event.get('type')!r}.", param="type") from error
        raise invalid(error, first["loc"][1:]) from error


def read_session(given: JsonObject, *, names: Mapping[str, str]) -> SessionRequest:
    """The session that was asked for; `names` are what the client calls the fields of ``audio.input``.

    Raises:
        InvalidRequestError: A field cannot be read; it is named as the client names it.
    """
    try:
        return SessionRequest.model_validate(given)
    except ValidationError as error:
        path = [part for part in error.errors()[0]["loc"] if part not in _TAGS]
        if names and path[:2] == ["audio", "input"] and len(path) > 2:
            path = [names.get(str(path[2]), path[2]), *path[3:]]
        raise invalid(error, ("session", *path)) from error


_TAGS = frozenset({"audio/pcm", "audio/pcmu", "audio/pcma", "server_vad", "semantic_vad"})
"""Parts of an error's place that are no fields."""


def invalid(error: ValidationError, place: tuple[int | str, ...]) -> InvalidRequestError:
    """The first thing that is wrong, and where."""
    param = ".".join(str(part) for part in place)
    return InvalidRequestError(f"{param}: {error.errors()[0]['msg']}", param=param)
