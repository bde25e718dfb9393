"""The messages of a live session: those of the client, and the answers."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ....domain.errors import ServiceError
from ..guards.errors import ProtocolError
from ..guards.websocket_gateway import JsonObject

_LONGEST_QUOTE = 500


class KeepAliveMessage(BaseModel):
    """I am still here."""

    type: Literal["KeepAlive"]


class FinalizeMessage(BaseModel):
    """Say what you have, of all channels or of one, and go on."""

    type: Literal["Finalize"]
    channel: int | None = None


class CloseStreamMessage(BaseModel):
    """Say what you have, and close."""

    type: Literal["CloseStream"]


class ConfigureMessage(BaseModel):
    """Favour these terms from now on; change how the text is written."""

    type: Literal["Configure"]
    keyterms: tuple[str, ...] | None = None
    features: dict[str, bool] | None = None


ClientMessage: TypeAlias = KeepAliveMessage | FinalizeMessage | CloseStreamMessage | ConfigureMessage
_MESSAGE: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])


def read_message(text: str) -> ClientMessage:
    """What the client says.

    Raises:
        ProtocolError: It is no message that there is.
    """
    try:
        return _MESSAGE.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ProtocolError(f"{place}: {first['msg']}" if place else first["msg"]) from error


def schema_error(error: ServiceError, message: str) -> JsonObject:
    """The answer to a text that cannot be read."""
    return {
        "type": "Error",
        "variant": "SchemaError",
        "description": error.message,
        "message": message[:_LONGEST_QUOTE],
    }


def error_message(error: ServiceError) -> JsonObject:
    """Why the session ends."""
    return {"type": "Error", "variant": error.code, "description": error.message, "code": error.code}


def configured(request_id: str, keyterms: tuple[str, ...] | None) -> JsonObject:
    """The answer to a `Configure` that is in force."""
    told: JsonObject = {"type": "ConfigureSuccess", "request_id": request_id}
    return told if keyterms is None else told | {"keyterms": list(keyterms)}


FailureCode: TypeAlias = Literal[
    "CONFIGURE_KEYTERMS_NOT_SUPPORTED", "CONFIGURE_KEYTERM_LIMIT_EXCEEDED", "CONFIGURE_INTERNAL_ERROR"
]


def not_configured(request_id: str, code: FailureCode, description: str) -> JsonObject:
    """The answer to a `Configure` that changes nothing."""
    return {"type": "ConfigureFailure", "request_id": request_id, "code": code, "description": description}


def speech_started(place: Sequence[int], at_s: float) -> JsonObject:
    """Somebody begins to speak; `place`: the number of the channel, counted from 0, and how many there are."""
    return {"type": "SpeechStarted", "channel": place, "timestamp": round(at_s, 3)}


def utterance_end(place: Sequence[int], last_word_end_s: float) -> JsonObject:
    """Nobody has spoken for as long as the client wants to be told of."""
    return {"type": "UtteranceEnd", "channel": place, "last_word_end": round(last_word_end_s, 3)}
