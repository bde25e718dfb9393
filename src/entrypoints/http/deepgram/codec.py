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
from ....domain.live import EndCause, Final, Partial, SpeechStarted
from ....domain.transcript import Word
from ..guards.errors import FrameTooLargeError, ProtocolError
from ..guards.websocket_gateway import Farewell, JsonObject, farewell
from . import messages
from .audio import MonoReader, RawAudio, WaveHead
from .messages import CloseStreamMessage, ConfigureMessage, FinalizeMessage, KeepAliveMessage, read_message
from .query import LiveQuery, favouring
from .words import confidence_of, model_info, model_uuid, seconds, text_of, words_json

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

    def apply(self, to: dict[str, bool]) -> Sequence[JsonObject]:
        to.update(self.writes)
        return () if self.told is None else (self.told,)


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
        self._take_for(RawAudio(encoding or defaults.encoding, query.rate_hz, query.channels))
        self._options = replace(
            self._with_audio(defaults),
            language=query.language_code(model),
            endpointing=_endpointing(query),
            decoding=query.decoding(model),
        )
        self._created = datetime.now(UTC)
        self._digest = hashlib.sha256()
        self._progress: LiveProgress | None = None
        self._begun_s = 0.0  # where the present options begin
        self._span_s = 0.0  # where the text begins that is not final
        self._finalizes = 0  # to be answered
        self._pending = deque[_Change]()
        self._told_start = False
        self._last_word_end_s: float | None = None  # of a silence that is to be told

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
                self._finalizes += 1
        return iter((Finalize(),))

    def encode(self, event: LoopEvent) -> Sequence[JsonObject]:
        """See the port."""
        match event:
            case Ready(progress):
                self._progress = progress
            case Configured(at_s):
                self._begun_s = at_s
                return self._pending.popleft().apply(self._writes)
            case SpeechStarted(at_s):
                told = self._silence_until(self._begun_s + at_s)
                self._last_word_end_s, self._told_start = None, self._query.vad_events
                return (*told, messages.speech_started(self._begun_s + at_s)) if self._told_start else told
            case Partial(words=words) if words and self._query.interim_results:
                return (self._results(words, is_final=False),)
            case Final():
                return self._end(event)
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
            self._take_for(audio)
            self._options = self._with_audio(self._options)
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
        """Tells once that nobody has spoken, since the last word, for as long as the client wants to be told of."""
        limit_ms, last_s = self._query.utterance_end_ms, self._last_word_end_s
        if limit_ms is None or last_s is None or time_s - last_s < limit_ms / 1000:
            return ()
        self._last_word_end_s = None
        return (messages.utterance_end(last_s),)

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
            for message in change.apply(self._writes):
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

    def _end(self, final: Final) -> Sequence[JsonObject]:
        """The text of what is final now; empty where the client waits for one."""
        words, told_start = final.words, self._told_start
        self._told_start = False
        finalized = final.cause is EndCause.ASKED and self._finalizes > 0
        self._finalizes -= finalized
        if words:
            self._last_word_end_s = self._begun_s + words[-1].end_s
        if not (words or finalized or told_start):
            return ()
        paused = final.cause is EndCause.SILENCE and self._query.silence_s is not None
        told = self._results(
            words, is_final=True, speech_final=paused or (finalized and bool(words)), from_finalize=finalized
        )
        if words:
            self._span_s = self._begun_s + words[-1].end_s
        return (told,)

    def _results(
        self, words: Sequence[Word], *, is_final: bool, speech_final: bool = False, from_finalize: bool = False
    ) -> JsonObject:
        until_s = self._begun_s + words[-1].end_s if words else self._span_s
        timed = [
            replace(word, start_s=self._begun_s + word.start_s, end_s=self._begun_s + word.end_s) for word in words
        ]
        punctuates = any(self._writes.values())
        alternative: JsonObject = {
            "transcript": text_of(words, punctuates=punctuates),
            "confidence": confidence_of(words),
            "words": words_json(timed, punctuates=punctuates),
        }
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": seconds(max(until_s - self._span_s, 0.0)),
            "start": seconds(self._span_s),
            "is_final": is_final,
            "speech_final": speech_final,
            "from_finalize": from_finalize,
            "channel": {"alternatives": [alternative]},
            "metadata": {
                "request_id": self._request_id,
                "model_info": model_info(self._model),
                "model_uuid": model_uuid(self._model),
            },
        }

    def _metadata(self) -> JsonObject:
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": self._digest.hexdigest(),
            "created": self._created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "duration": seconds(0.0 if self._progress is None else self._progress.audio_s),
            "channels": self._query.channels,
        }

    def _take_for(self, audio: RawAudio) -> None:
        self._audio, self._reader = audio, MonoReader(audio)

    def _with_audio(self, options: LiveOptions) -> LiveOptions:
        return replace(options, encoding=self._audio.mono_encoding, sample_rate_hz=self._audio.rate_hz)


def _endpointing(query: LiveQuery) -> Endpointing:
    """Pauses that end what is said; the model reads on over short ones, and writes as if there were none."""
    silence_s = query.silence_s
    if silence_s is None:
        return Endpointing()
    if query.utterance_end_ms is not None:
        # It is sent after the text.
        silence_s = min(silence_s, query.utterance_end_ms / 1000)
    return Endpointing(silence_s=silence_s, keeps_context=True)
