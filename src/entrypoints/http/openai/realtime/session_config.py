"""How a session is set up: what was asked for, piece by piece, and what is in force."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import cast

from .....application.ports.speech_model import GREEDY, Decoding, ModelDescription, StreamContext
from .....application.stream_session import LiveOptions
from .....domain.audio import Encoding
from .....domain.endpointing import Endpointing
from .....domain.errors import InvalidRequestError
from ...guards.websocket_gateway import JsonObject
from ...recordings.keywords import decoding_of
from ..models import check_model
from ..request import language_of
from .schemas import LOGPROBS, Alaw, Delay, Eagerness, Mulaw, Pcm, SemanticVad, ServerVad, SessionRequest, read_session

_CONTEXTS: Mapping[Delay, tuple[float, float]] = MappingProxyType(
    # Seconds of a chunk, and of audio that must follow a word before it is told: a delta comes later than its word by
    # both, or at the turn's end. What the audio behind a word is worth is measured in docs/adr/0007: with 1 s, 6 words
    # of a hundred differ from what the whole recording reads, with 3 s 1.3, with 4 s 0.5, with 6 s none.
    {"minimal": (0.5, 1.0), "low": (1.0, 2.0), "medium": (1.0, 3.0), "high": (1.0, 4.0), "xhigh": (1.0, 6.0)}
)
_PATIENCE: Mapping[Eagerness, tuple[float, float]] = MappingProxyType(
    # Silence that ends any turn, as OpenAI has it, and a finished sentence.
    {"low": (8.0, 1.5), "medium": (4.0, 0.8), "auto": (4.0, 0.8), "high": (2.0, 0.4)}
)
_COMMITTED_BY_CLIENTS = frozenset({"gpt-realtime-whisper", "gpt-live-transcribe"})
"""Models that detect no turns with OpenAI: clients that name one commit by themselves."""
_FLAT = MappingProxyType(
    {
        "format": "input_audio_format",
        "transcription": "input_audio_transcription",
        "turn_detection": "turn_detection",
        "noise_reduction": "input_audio_noise_reduction",
    }
)
"""What the beta protocol calls the fields of ``audio.input``; they stand in the session itself."""
_FLAT_FORMATS = MappingProxyType({"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"})


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """A session's setup; `updated` gives the next one.

    Attributes:
        model: What is loaded.
        asked: What the client asked for so far.
        language: ISO 639-1 code of the text, or ``None`` where nobody knows.
        turn_detection: What ends a turn; ``None``: the client does.
        endpointing: The same, for the session behind.
        decoding: Favours the keywords, if the model can.
    """

    model: ModelDescription
    asked: SessionRequest
    language: str | None
    turn_detection: ServerVad | SemanticVad | None
    endpointing: Endpointing
    decoding: Decoding

    @classmethod
    def of(cls, model: ModelDescription, asked: SessionRequest | None = None) -> "SessionConfig":
        """What a client gets that asks for `asked`, or for nothing.

        Raises:
            InvalidRequestError: It cannot be met.
            UnknownModelError: It names another model.
        """
        asked = asked or SessionRequest()
        transcription = asked.audio.input.transcription
        if transcription.model is not None:
            check_model(transcription.model, model)
        language = language_of(transcription.language or "", transcription.languages, model)
        turn_detection = _turn_detection(asked)
        favoured = decoding_of(transcription.keywords)
        return cls(
            model,
            asked,
            language,
            turn_detection,
            _endpointing(turn_detection),
            favoured if model.searches else GREEDY,
        )

    def updated(self, session: JsonObject) -> "SessionConfig":
        """The same with what `session` asks for: what it leaves out stays, ``null`` is the default again.

        But for the detection of turns, where ``null`` means that there is none. The beta protocol's names may be used
        as well.

        Raises:
            InvalidRequestError: A field cannot be read, or not be met.
            UnknownModelError: It names another model.
        """
        given = _merged(self.asked.model_dump(mode="json", exclude_unset=True), _nested(session))
        names: Mapping[str, str] = _FLAT if _FLAT.values() & session.keys() else {}
        return SessionConfig.of(self.model, read_session(given, names=names))

    @property
    def logprobs(self) -> bool:
        """Whether the probabilities of tokens are wanted."""
        return LOGPROBS in self.asked.include

    def options(self, defaults: LiveOptions) -> LiveOptions:
        """The same, for the session behind; what OpenAI's protocol does not know is as in `defaults`."""
        match self.asked.audio.input.format:
            case Pcm(rate=rate):
                encoding, rate_hz = Encoding.PCM_S16LE, int(rate)
            case Mulaw():
                encoding, rate_hz = Encoding.MULAW, 8000
            case Alaw():
                encoding, rate_hz = Encoding.ALAW, 8000
        context = self._context(defaults.context)
        return LiveOptions(encoding, rate_hz, self.language, context, self.endpointing, self.decoding)

    def _context(self, default: StreamContext) -> StreamContext:
        delay = self.asked.audio.input.transcription.delay
        if delay is None:
            return default
        chunk_s, right_s = _CONTEXTS[delay]
        return replace(default, chunk_s=chunk_s, right_s=right_s)

    def in_force(self, session_id: str, *, flat: bool) -> JsonObject:
        """The session as the client sees it; `flat` is the form of the beta protocol."""
        asked = self.asked.audio.input
        transcription: JsonObject = {"model": asked.transcription.model or self.model.id, "language": self.language}
        if asked.transcription.delay is not None:
            transcription["delay"] = asked.transcription.delay
        if self.decoding.phrases:
            transcription["keywords"] = list(self.decoding.phrases)
        audio: JsonObject = {
            "format": asked.format.model_dump(),
            "transcription": transcription,
            "turn_detection": None
            if self.turn_detection is None
            else self.turn_detection.model_dump(exclude_none=True),
            "noise_reduction": None,
        }
        # No time is too long for a session, and so there is none at which it would end.
        head: JsonObject = {"id": session_id, "object": "realtime.transcription_session", "expires_at": None}
        include = [LOGPROBS] if self.logprobs else None
        if flat:
            audio["format"] = next(name for name, kind in _FLAT_FORMATS.items() if kind == asked.format.type)
            return head | {_FLAT[name]: value for name, value in audio.items()} | {"include": include}
        return head | {"type": "transcription", "audio": {"input": audio}, "include": include}


def _turn_detection(asked: SessionRequest) -> ServerVad | SemanticVad | None:
    audio = asked.audio.input
    if audio.transcription.model in _COMMITTED_BY_CLIENTS and "turn_detection" not in audio.model_fields_set:
        return None
    return audio.turn_detection


def _endpointing(turn_detection: ServerVad | SemanticVad | None) -> Endpointing:
    try:
        match turn_detection:
            case None:
                return Endpointing(silence_s=None)
            case SemanticVad(eagerness=eagerness):
                silence_s, complete_s = _PATIENCE[eagerness]
                return Endpointing(silence_s=silence_s, complete_s=complete_s)
            case ServerVad() as vad:
                return Endpointing(
                    silence_s=vad.silence_duration_ms / 1000,
                    threshold=vad.threshold,
                    prefix_padding_s=vad.prefix_padding_ms / 1000,
                )
    except InvalidRequestError as error:
        raise InvalidRequestError(f"turn_detection: {error.message}", param="turn_detection") from error


def _nested(session: JsonObject) -> JsonObject:
    """The beta protocol's fields in their places of the GA protocol."""
    moved: JsonObject = {name: session[flat] for name, flat in _FLAT.items() if flat in session}
    if not moved:
        return session
    if isinstance(kind := moved.get("format"), str):
        moved["format"] = {"type": _FLAT_FORMATS.get(kind, kind)}
    rest = {name: value for name, value in session.items() if name not in _FLAT.values()}
    return _merged(rest, {"audio": {"input": moved}})


def _merged(old: JsonObject, new: JsonObject) -> JsonObject:
    """`old` with the fields of `new`, and theirs; what an object of another `type` does not know is dropped on reading."""
    merged = dict(old)
    for name, value in new.items():
        before = merged.get(name)
        if isinstance(value, dict):
            known = cast("JsonObject", before) if isinstance(before, dict) else {}
            merged[name] = _merged(known, cast("JsonObject", value))
        elif value is None and name != "turn_detection":
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged
