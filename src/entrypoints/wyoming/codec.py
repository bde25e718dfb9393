"""One utterance of a Wyoming client, from `audio-start` to `transcript`, as the live loop understands it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, ValidationError
from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.ping import Pong

from ...application.live_codec import Close, Command, Failed, LoopEvent, Reply, SendAudio
from ...application.ports.speech_model import (
    GREEDY,
    LONGEST_PHRASE,
    MOST_PHRASE_CHARACTERS,
    MOST_PHRASES,
    Decoding,
)
from ...application.stream_session import LiveOptions
from ...domain.endpointing import Endpointing
from ...domain.errors import AudioTooLongError, ServiceError
from ...domain.languages import code_of
from ...domain.live import EndCause, Final, Partial, SpeechStarted
from ...domain.transcript import Word, join_words
from .audio import AudioFormat, MonoReader
from .errors import ProtocolError

LONGEST_WAIT_S = 15.0
"""How long a microphone may stay open without a word; where Home Assistant listens for the end, it waits as long."""
_AHEAD_S = 2.0
"""Audio that a microphone may have kept before it could send. What is sent faster is a recording: it has pauses, and
ends with `audio-stop`."""
_SENSITIVITIES = {"aggressive": 0.5, "relaxed": 2.0}
"""Factors of the silence that ends an utterance."""


class TranscribeRequest(BaseModel):
    """What `transcribe` asks for; a field that is not here has no effect."""

    model_config = ConfigDict(strict=True)

    language: str | None = None
    vad_sensitivity: str | None = None
    transcript_names: list[str] | None = None
    transcript_terms: list[str] | None = None

    def options(
        self, defaults: LiveOptions, audio: AudioFormat, *, silence_s: float | None, searches: bool
    ) -> LiveOptions:
        """How to transcribe `audio`.

        Args:
            defaults: What the client has no wishes for.
            audio: What it sends.
            silence_s: Ends an utterance, unless the client has wishes.
            searches: Whether the model can favour names and terms; else they have no effect.
        """
        endpointing = defaults.endpointing
        if silence_s is not None:
            factor = _SENSITIVITIES.get(self.vad_sensitivity or "", 1.0)
            endpointing = Endpointing(silence_s=max(silence_s * factor, 0.1))
        return replace(
            defaults,
            encoding=audio.encoding,
            sample_rate_hz=audio.rate,
            language=code_of(self.language) if self.language else None,
            endpointing=endpointing,
            decoding=self._decoding() if searches else GREEDY,
        )

    def _decoding(self) -> Decoding:
        """Favours names, then terms, up to the limit of phrases: a home may have any number of them."""
        phrases: list[str] = []
        room = MOST_PHRASE_CHARACTERS
        for phrase in dict.fromkeys((*(self.transcript_names or ()), *(self.transcript_terms or ()))):
            if len(phrases) < MOST_PHRASES and len(phrase) <= min(LONGEST_PHRASE, room) and phrase.strip():
                phrases.append(phrase)
                room -= len(phrase)
        return Decoding(phrases=tuple(phrases))


@dataclass(frozen=True, slots=True)
class Ending:
    """When an utterance is over.

    Attributes:
        by_itself: Whether it is as soon as its speaker has paused, and not at `audio-stop`.
        longest_s: Longest audio that is taken.
    """

    by_itself: bool
    longest_s: float


class WyomingCodec:
    """One utterance. It may tell its transcript before `audio-stop`; it tells one in any case, by `conclude`."""

    def __init__(
        self,
        options: LiveOptions,
        audio: AudioFormat,
        ending: Ending,
        *,
        info: Callable[[], Event],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with no audio.

        Args:
            options: What was asked for.
            audio: What `audio-start` has said.
            ending: When the utterance is over.
            info: The answer to `describe`.
            clock: Tells the time, in seconds.
        """
        self._options = options
        self._audio = audio
        self._ending = ending
        self._info = info
        self._clock = clock
        self._began = clock()
        self._reader = MonoReader(audio)
        self._bytes = 0
        self._spoke = False
        self._texts: list[str] = []
        self._told = 0  # words of the current utterance
        self._started = False
        self._concluded = False
        self.is_closed = False
        """Whether the live loop has been asked to end; events that come now are for later."""
        self.is_stopped = False
        """Whether `audio-stop` has come."""

    def begin(self) -> LiveOptions:
        """See the port."""
        return self._options

    async def decode(self, message: Event) -> Sequence[Command[Event]]:
        """See the port."""
        match message.type:
            case "audio-chunk":
                return self._take(message)
            case "audio-stop":
                self.is_stopped = True
                return self._close()
            case "audio-start":
                raise ProtocolError("audio-start came again before audio-stop.")
            case "ping":
                return (Reply(pong(message)),)
            case "describe":
                return (Reply(self._info()),)
            case _:
                return ()

    def encode(self, event: LoopEvent) -> Sequence[Event]:
        """See the port."""
        if self._concluded:
            return ()
        match event:
            case SpeechStarted():
                self._spoke = True
            case Partial(stable):
                return self._tell(stable)
            case Final(words, cause=cause):
                events = self._tell(words)
                self._told = 0
                if not words:
                    return events
                self._texts.append(event.text)
                paused = self._ending.by_itself and cause is EndCause.SILENCE and not self._is_ahead()
                return (*events, *self.conclude()) if paused else events
            case Failed(error):
                self._concluded = True
                return (error_event(error),)
            case _:
                pass
        return ()

    def conclude(self) -> Sequence[Event]:
        """The transcript, unless it has been told."""
        if self._concluded:
            return ()
        self._concluded = True
        transcript = Transcript(" ".join(self._texts), language=self._options.language).event()
        return (*self._start(), transcript, TranscriptStop().event())

    def _take(self, message: Event) -> Sequence[Command[Event]]:
        if self._concluded:
            return self._close()
        if read_format(message) != self._audio:
            raise ProtocolError("The format of audio-chunk is not that of audio-start.")
        self._bytes += len(message.payload or b"")
        if self._audio_s > self._ending.longest_s:
            raise AudioTooLongError(limit_s=self._ending.longest_s, duration_s=round(self._audio_s, 3))
        if self._ending.by_itself and not self._spoke and self._audio_s > LONGEST_WAIT_S and not self._is_ahead():
            return self._close()
        return (SendAudio(self._reader.read(message.payload or b"")),)

    @property
    def _audio_s(self) -> float:
        return self._bytes / (self._audio.frame_bytes * self._audio.rate)

    def _is_ahead(self) -> bool:
        return self._audio_s > self._clock() - self._began + _AHEAD_S

    def _close(self) -> Sequence[Command[Event]]:
        self.is_closed = True
        return (Close(),)

    def _tell(self, words: Sequence[Word]) -> Sequence[Event]:
        """What of `words`, which never change again, was not told yet; all chunks together are the transcript."""
        news = words[self._told :]
        if not news:
            return ()
        space = " " if self._texts or self._told else ""
        self._told = len(words)
        return (*self._start(), TranscriptChunk(space + join_words(news)).event())

    def _start(self) -> Sequence[Event]:
        if self._started:
            return ()
        self._started = True
        return (TranscriptStart(language=self._options.language).event(),)


def read_format(message: Event) -> AudioFormat:
    """What an event says of its audio.

    Raises:
        ProtocolError: It says nothing that can be.
    """
    try:
        audio = AudioFormat.model_validate(message.data)
    except ValidationError as error:
        raise _misfit(message, error) from error
    if audio.rate < 1:
        raise ProtocolError(f"{message.type}: rate must be positive.")
    return audio


def read_request(message: Event) -> TranscribeRequest:
    """What `transcribe` asks for.

    Raises:
        ProtocolError: A field is of another type.
    """
    try:
        return TranscribeRequest.model_validate(message.data)
    except ValidationError as error:
        raise _misfit(message, error) from error


def pong(message: Event) -> Event:
    """The answer to a `ping`."""
    text = message.data.get("text")
    return Pong(text if isinstance(text, str) else None).event()


def error_event(error: ServiceError) -> Event:
    """The event that reports `error`."""
    return Error(error.message, error.code).event()


def _misfit(message: Event, error: ValidationError) -> ProtocolError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ProtocolError(f"{message.type}: {'.'.join(map(str, first['loc']))}: {first['msg']}.")
