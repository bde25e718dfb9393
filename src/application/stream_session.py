"""The use-case behind every live protocol: frames of raw audio in, events out."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..domain.audio import Encoding, PcmReader
from ..domain.endpointing import Endpointing
from ..domain.errors import InvalidRequestError
from .live_transcriber import LiveTranscriber
from .ports.resampler import Resampler
from .ports.speech_model import ModelDescription, SpeechModel, StreamContext
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
    """

    encoding: Encoding
    sample_rate_hz: int
    language: str | None
    context: StreamContext
    endpointing: Endpointing


@dataclass(frozen=True, slots=True)
class StreamSession:
    """Reads live audio as it comes; many sessions run side by side.

    With a `detector` the model is given nothing but speech: silence costs no inference, and noise gives no words. It
    begins anew after each pause, and at a breath where it has read half of `longest_window_s` without one.
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
    async def open(self, options: LiveOptions) -> AsyncGenerator["LiveTranscriber"]:
        """Begin a session; leaving the context frees its place, whatever happened.

        Raises:
            InvalidRequestError: An option cannot be met; it is named.
            ModelNotReadyError, TooManyStreamsError: Later, it may work.
        """
        model = self.model.describe()
        _check(options, model)
        rate_hz = model.sample_rate_hz
        context = options.context
        segmenter = segmenter_for(
            self.detector,
            options.endpointing.detection(),
            sample_rate_hz=rate_hz,
            hop=max(int(_HOP_S * rate_hz), 1),
            # As recordings are cut: then live text reads like theirs.
            long_s=min(self.longest_window_s, model.max_window_s) / 2,
        )
        # Who is behind reads all that waits, as far as it fits beside the rest of a window.
        room_s = min(model.max_window_s - context.left_s - context.right_s - context.chunk_s, _LONGEST_STEP_S)
        async with self.model.open_stream(context) as stream:
            yield LiveTranscriber(
                stream,
                PcmReader(options.encoding),
                self.resampler.open(from_hz=options.sample_rate_hz, to_hz=rate_hz),
                segmenter,
                options.endpointing,
                sample_rate_hz=rate_hz,
                hop_s=_HOP_S,
                longest_step_s=max(room_s, context.chunk_s),
                longest_backlog_s=self.longest_backlog_s,
            )


def _check(options: LiveOptions, model: ModelDescription) -> None:
    context = options.context
    if not 8000 <= options.sample_rate_hz <= 192_000:
        raise InvalidRequestError("sample_rate must be from 8000 to 192000 Hz.", param="sample_rate")
    if options.language is not None and options.language.partition("-")[0].lower() not in model.languages:
        known = ", ".join(model.languages)
        raise InvalidRequestError(
            f"The model does not write {options.language!r}; it writes {known}.", param="language"
        )
    if not 0.16 <= context.chunk_s <= 30:
        raise InvalidRequestError("chunk_s must be from 0.16 to 30 seconds.", param="chunk_s")
    for param, seconds in (("left_context_s", context.left_s), ("right_context_s", context.right_s)):
        if not 0 <= seconds <= model.max_window_s:
            raise InvalidRequestError(f"{param} must be from 0 to {model.max_window_s:g} seconds.", param=param)
    if context.left_s + context.chunk_s + context.right_s > model.max_window_s:
        message = f"left_context_s, chunk_s and right_context_s may add up to {model.max_window_s:g} seconds."
        raise InvalidRequestError(message, param="left_context_s")
