"""Deepgram's live protocol, as the live loop understands it."""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ....application.live_codec import (
    Close,
    Command,
    Configure,
    Configured,
    Failed,
    Finalize,
    KeepAlive,
    LiveProgress,
    LoopEvent,
    Ready,
    Reply,
    SendAudio,
)
from ....application.live_loop import LiveEnd
from ....application.ports.speech_model import ModelDescription
from ....application.stream_session import LiveOptions
from ....domain.endpointing import Endpointing
from ....domain.errors import InvalidRequestError, ServiceError, SessionIdleError, UndecodableAudioError
from ....domain.live import Final, Partial, SpeechStarted
from ..guards.errors import FrameTooLargeError, ProtocolError
from ..guards.websocket_gateway import Farewell, JsonObject, farewell
from . import messages
from .audio import FrameReader, MixReader, RawAudio, WaveHead
from .messages import CloseStreamMessage, ConfigureMessage, FinalizeMessage, KeepAliveMessage, read_message
from .query import LiveQuery, favouring
from .spoken_channel import SpokenChannel
from .words import seconds

FRAME_BYTES = 16 << 20
"""Largest message of a client."""
_PIECE_S = 1.0
"""Audio is passed on in pieces: one message may have minutes of it, and others want their turn."""

_Commands = Iterator[Command[JsonObject]]


@dataclass(frozen=True, slots=True)
class _Change:
    """What a `Configure` changes once the audio before it has its text, and the answer to it."""

    told: JsonObject | None = None
    writes: Mapping[str, bool] = field(default_factory=dict[str, bool])


class ListenCodec:
    """One client's session."""

    def __init__(self, model: ModelDescription, defaults: LiveOptions, query: LiveQuery, *, request_id: str) -> None:
        """Begin before the first message.

        Args:
            model: What is loaded.
            defaults: What Deepgram's protocol does not know.
            query: What the client has asked for.
            request_id: The session's name.

        Raises:
            InvalidRequestError, UnknownModelError: It cannot be met.
        """
        query.check_model(model)
        self._model = model
        self._query = query
        self._request_id = request_id
        # What of the text `Configure` can change: either of them wants it as the model writes it.
        self._writes = {"punctuate": query.punctuate is not False, "smart_format": query.smart_format}
        encoding = query.raw_encoding
        self._head = None if encoding else WaveHead()
        self._options = replace(
            self._take_for(RawAudio(encoding or defaults.encoding, query.rate_hz, query.channels), defaults),
            language=query.language_code(model),
            endpointing=_endpointing(query),
            decoding=query.decoding(model),
        )
        self._created = datetime.now(UTC)
        self._digest = hashlib.sha256()
        self._progress: LiveProgress | None = None
        self._begun_s = 0.0  # where the present options begin
        self._channels = self._spoken()
        self._pending = deque[_Change]()

    def begin(self) -> LiveOptions:
        """See the port."""
        return self._options

    async def decode(self, message: bytes | str) -> _Commands:
        """See the port."""
        if len(message) > FRAME_BYTES:
            raise FrameTooLargeError(limit_bytes=FRAME_BYTES)
        if isinstance(message, bytes):
            # Deepgram's older clients end with an empty message.
            return self._take(message) if message else iter((Close(),))
        try:
            said = read_message(message)
        except ProtocolError as error:
            return iter((Reply(messages.schema_error(error, message)),))
        match said:
            case ConfigureMessage():
                return self._configure(said)
            case KeepAliveMessage():
                return iter((KeepAlive(),))
            case CloseStreamMessage():
                return iter((Close(),))
            case FinalizeMessage():
                return self._finalize(said, message)

    def encode(self, event: LoopEvent) -> Sequence[JsonObject]:
        """See the port."""
        match event:
            case Ready(progress):
                self._progress = progress
            case Configured(at_s):
                self._begun_s = at_s
                if len(self._channels) != self._options.channels:
                    self._channels = self._spoken()
                return self._apply(self._pending.popleft())
            case SpeechStarted(at_s):
                return self._channels[event.channel].started(at_s)
            case Partial(words=words):
                return self._channels[event.channel].interim(words)
            case Final():
                return self._channels[event.channel].end(event)
            case Failed(error):
                return (messages.error_message(error),)
            case _:
                pass
        return ()

    def farewell(self, end: LiveEnd | ServiceError) -> Farewell:
        """How the session ends on the wire."""
        usual = farewell(end)
        match end:
            case SessionIdleError():
                return Farewell(1011, f"NET-0001: no audio and no KeepAlive for {end.details['limit_s']:g} s")
            case UndecodableAudioError():
                return Farewell(1008, "DATA-0000: the audio cannot be decoded")
            case ServiceError():
                return replace(usual, reason=end.code)
            case _:
                return replace(usual, messages=(*self._silence_until(self._heard_s), self._metadata()))

    def _take(self, data: bytes) -> _Commands:
        self._digest.update(data)
        if self._head is not None:
            found = self._head.read(data)
            if found is None:
                return
            audio, data = found
            self._head = None
            self._options = self._take_for(audio, self._options)
            self._pending.append(_Change())
            yield Configure(self._options)
        for message in self._silence_until(self._heard_s):
            yield Reply(message)
        samples = self._reader.read(data)
        piece = int(_PIECE_S * self._options.bytes_per_s)
        for at in range(0, len(samples), piece):
            yield SendAudio(samples[at : at + piece])

    @property
    def _heard_s(self) -> float:
        return 0.0 if self._progress is None else self._progress.heard_s

    def _silence_until(self, time_s: float) -> Sequence[JsonObject]:
        return [message for channel in self._channels for message in channel.silence_until(time_s)]

    def _finalize(self, said: FinalizeMessage, message: str) -> _Commands:
        channel, count = said.channel, len(self._channels)
        if not self._query.multichannel:
            # There is one text, that of their mix.
            channel = None
        elif channel is not None and not 0 <= channel < count:
            error = ProtocolError(f"channel: it must be from 0 to {count - 1}.")
            return iter((Reply(messages.schema_error(error, message)),))
        for one in self._channels if channel is None else (self._channels[channel],):
            one.finalize()
        return iter((Finalize(channel),))

    def _configure(self, said: ConfigureMessage) -> _Commands:
        failure = self._failure_of(said)
        if failure is not None:
            yield Reply(failure)
            return
        writes = {name: wanted for name, wanted in (said.features or {}).items() if name in self._writes}
        change = _Change(messages.configured(self._request_id, said.keyterms), writes)
        options = self._options
        if said.keyterms is not None:
            options = replace(options, decoding=favouring(said.keyterms))
        if options == self._options:
            for message in self._apply(change):
                yield Reply(message)
            return
        self._options = options
        self._pending.append(change)
        yield Configure(options)

    def _failure_of(self, said: ConfigureMessage) -> JsonObject | None:
        """The answer to what cannot be met."""
        if said.keyterms and not self._model.searches:
            description = f"{self._model.id} does not support keyterms."
            return messages.not_configured(self._request_id, "CONFIGURE_KEYTERMS_NOT_SUPPORTED", description)
        try:
            favouring(said.keyterms or ())
        except InvalidRequestError as error:
            return messages.not_configured(self._request_id, "CONFIGURE_KEYTERM_LIMIT_EXCEEDED", error.message)
        unknown = [name for name, wanted in (said.features or {}).items() if wanted and name not in self._writes]
        if unknown:
            description = f"This service does not have {', '.join(unknown)}."
            return messages.not_configured(self._request_id, "CONFIGURE_INTERNAL_ERROR", description)
        return None

    def _apply(self, change: _Change) -> Sequence[JsonObject]:
        self._writes.update(change.writes)
        for channel in self._channels:
            channel.begin(self._begun_s, punctuates=any(self._writes.values()))
        return () if change.told is None else (change.told,)

    def _metadata(self) -> JsonObject:
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": self._digest.hexdigest(),
            "created": self._created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "duration": seconds(0.0 if self._progress is None else self._progress.audio_s),
            "channels": self._audio.channels,
        }

    def _take_for(self, audio: RawAudio, options: LiveOptions) -> LiveOptions:
        """The options for such audio, which is what comes from now on."""
        self._audio = audio
        self._reader = FrameReader(audio) if self._query.multichannel else MixReader(audio)
        heard = audio if self._query.multichannel else audio.mixed
        return replace(options, encoding=heard.encoding, sample_rate_hz=heard.rate_hz, channels=heard.channels)

    def _spoken(self) -> Sequence[SpokenChannel]:
        count = self._options.channels
        return [
            SpokenChannel((number, count), self._model, self._query, request_id=self._request_id)
            for number in range(count)
        ]


def _endpointing(query: LiveQuery) -> Endpointing:
    """Pauses that end what is said; the model reads on over short ones, and writes as if there were none."""
    silence_s = query.silence_s
    if silence_s is None:
        return Endpointing()
    if query.utterance_end_ms is not None:
        # It is sent after the text.
        silence_s = min(silence_s, query.utterance_end_ms / 1000)
    return Endpointing(silence_s=silence_s, keeps_context=True)
