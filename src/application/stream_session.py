"""The use-case behind every live protocol: frames of raw audio in, events out."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from ..domain.audio import Encoding, PcmReader
from ..domain.channels import MOST_CHANNELS
from ..domain.endpointing import Endpointing
from ..domain.errors import InvalidRequestError
from .live_transcriber import LiveTranscriber
from .ports.resampler import Resampler
from .ports.speech_model import (
    GREEDY,
    Decoding,
    ModelDescription,
    RecognitionStream,
    SpeechModel,
    StreamContext,
)
from .ports.voice_activity_detector import VoiceActivityDetector
from .segmenter import segmenter_for

_HOP_S = 0.1
"""Audio is looked at in pieces of at least this length: smaller ones cost more, and tell hardly anything sooner."""
_LONGEST_STEP_S = 5.0
"""The detector takes 8 ms for so much; others wait for their turn meanwhile."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What a client asks of its session.

    Attributes:
        encoding: How its samples are written.
        sample_rate_hz: Their rate.
        language: ISO 639-1 code, such as ``"en"``; ``None`` leaves it to the model.
        context: How the stream is cut into windows.
        endpointing: What ends an utterance.
        decoding: How the model chooses among tokens, such as which phrases it favours.
        channels: How many there are, interleaved; each is transcribed by itself, and costs as much as a session.
    """

    encoding: Encoding
    sample_rate_hz: int
    language: str | None
    context: StreamContext
    endpointing: Endpointing
    decoding: Decoding = GREEDY
    channels: int = 1

    @property
    def bytes_per_s(self) -> int:
        """Of raw audio, as the client sends it."""
        return self.encoding.sample_bytes * self.sample_rate_hz * self.channels


@dataclass(frozen=True, slots=True)
class StreamSession:
    """Reads live audio as it comes; many sessions run side by side.

    With a `detector` the model is given nothing but speech: silence costs no inference, and noise gives no words. It
    starts afresh after each pause, and at a breath where it has read half of `longest_window_s` without one.
    """

    model: SpeechModel
    resampler: Resampler
    context: StreamContext
    detector: VoiceActivityDetector | None = None
    longest_window_s: float = 60.0
    longest_backlog_s: float = 30.0

    @property
    def defaults(self) -> LiveOptions:
        """What a client gets that asks for nothing."""
        return LiveOptions(Encoding.PCM_S16LE, 16000, None, self.context, Endpointing())

    def check(self) -> None:
        """Hold the defaults against the loaded model, so that a start fails and not every session after it.

        Raises:
            InvalidRequestError: One cannot be met; it is named.
        """
        _check(self.defaults, self.model.describe())

    @asynccontextmanager
    async def reserve(self, options: LiveOptions) -> AsyncGenerator["StreamSlot"]:
        """Take a place among the live streams, whose client asks for `options` so far; leaving the context frees it.

        A client has as many places as channels.

        Raises:
            InvalidRequestError: An option cannot be met; it is named.
            ModelNotReadyError, TooManyStreamsError: Later, it may work.
        """
        async with AsyncExitStack() as held:
            slot = StreamSlot(self, held)
            await slot.reserve(options)
            yield slot

    @asynccontextmanager
    async def open(self, options: LiveOptions) -> AsyncGenerator["LiveTranscriber"]:
        """The same with one transcriber, whose options are known; the audio is mono."""
        async with self.reserve(options) as slot:
            (transcriber,) = await slot.open(options)
            yield transcriber


class StreamSlot:
    """A client's place among the live streams; `StreamSession.reserve` is the way here.

    Each of its channels has one transcriber after the other.
    """

    def __init__(self, session: StreamSession, held: AsyncExitStack) -> None:
        """Take nothing yet; `held` frees what is taken."""
        self._session = session
        self._held = held
        self._reserved: tuple[StreamContext, Decoding, list[RecognitionStream]] | None = None

    async def reserve(self, options: LiveOptions) -> None:
        """Take the place; see `StreamSession.reserve`."""
        _check(options, self._session.model.describe())
        self._reserved = (options.context, options.decoding, await self._streams(options, []))

    async def open(self, options: LiveOptions) -> tuple[LiveTranscriber, ...]:
        """Begin a transcriber for each channel; those before are of no further use.

        Raises:
            InvalidRequestError: An option cannot be met; it is named.
            ModelNotReadyError, TooManyStreamsError: The stream had to be exchanged, and somebody else was faster.
        """
        model = self._session.model.describe()
        _check(options, model)
        reserved, self._reserved = self._reserved, None
        fresh: list[RecognitionStream] = []
        if reserved is not None and reserved[:2] == (options.context, options.decoding):
            fresh = reserved[2]
        if not 0 < len(fresh) <= options.channels:
            # How a stream is cut into windows, and decoded, is fixed when it begins.
            await self._held.aclose()
            fresh = []
        return tuple(self._transcriber(stream, options, model) for stream in await self._streams(options, fresh))

    def _transcriber(self, stream: RecognitionStream, options: LiveOptions, model: ModelDescription) -> LiveTranscriber:
        session, context, rate_hz = self._session, options.context, model.sample_rate_hz
        segmenter = segmenter_for(
            session.detector,
            options.endpointing.detection(),
            sample_rate_hz=rate_hz,
            hop=max(int(_HOP_S * rate_hz), 1),
            # As recordings are cut: then live text reads like theirs.
            long_s=min(session.longest_window_s, model.max_window_s) / 2,
        )
        # Who is behind reads all that waits, as far as it fits beside the rest of a window.
        room_s = min(model.max_window_s - context.left_s - context.right_s - context.chunk_s, _LONGEST_STEP_S)
        return LiveTranscriber(
            stream,
            PcmReader(options.encoding),
            session.resampler.open(from_hz=options.sample_rate_hz, to_hz=rate_hz),
            segmenter,
            options.endpointing,
            sample_rate_hz=rate_hz,
            hop_s=_HOP_S,
            longest_step_s=max(room_s, context.chunk_s),
            longest_backlog_s=session.longest_backlog_s,
        )

    async def _streams(self, options: LiveOptions, fresh: list[RecognitionStream]) -> list[RecognitionStream]:
        """One for each channel: the `fresh` ones, and more."""
        model = self._session.model
        return fresh + [
            await self._held.enter_async_context(model.open_stream(options.context, decoding=options.decoding))
            for _ in range(options.channels - len(fresh))
        ]


def _check(options: LiveOptions, model: ModelDescription) -> None:
    context = options.context
    if not 1 <= options.channels <= MOST_CHANNELS:
        message = f"From 1 to {MOST_CHANNELS} channels are transcribed each by itself, not {options.channels}."
        raise InvalidRequestError(message, param="channels")
    if not 8000 <= options.sample_rate_hz <= 192_000:
        raise InvalidRequestError("sample_rate_hz must be from 8000 to 192000.", param="sample_rate_hz")
    if options.language is not None and options.language.partition("-")[0].lower() not in model.languages:
        known = ", ".join(model.languages)
        raise InvalidRequestError(
            f"The model does not support {options.language!r}; it supports {known}.", param="language"
        )
    if options.decoding != GREEDY and not model.searches:
        param = "phrases" if options.decoding.phrases else "beam_size"
        raise InvalidRequestError(f"{model.id} supports neither phrases nor beam search.", param=param)
    if not 0.16 <= context.chunk_s <= 30:
        raise InvalidRequestError("chunk_s must be from 0.16 to 30 seconds.", param="chunk_s")
    for param, seconds in (("left_s", context.left_s), ("right_s", context.right_s)):
        if not 0 <= seconds <= model.max_window_s:
            raise InvalidRequestError(f"{param} must be from 0 to {model.max_window_s:g} seconds.", param=param)
    if context.left_s + context.chunk_s + context.right_s > model.max_window_s:
        message = f"left_s, chunk_s and right_s may add up to {model.max_window_s:g} seconds."
        raise InvalidRequestError(message, param="left_s")
