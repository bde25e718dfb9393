"""The use-case behind every way to send a recording: bytes in, transcript out."""

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

from ..domain.audio import Samples
from ..domain.chunking import AudioWindow, SpeechCutter
from ..domain.errors import (
    AudioTooLongError,
    InvalidRequestError,
    OverloadedError,
    ProcessingTimeoutError,
    RateLimitError,
)
from ..domain.merging import finalized_count, join_at_seam
from ..domain.transcript import Token, Transcript, Word, words_of
from ..domain.vad import LONGEST_PAUSE_S, VadParams
from .blocks import in_blocks
from .channel_windows import ChannelsOfRecording, ChannelWindows
from .ports.audio_decoder import AudioDecoder
from .ports.metrics import NO_METRICS, TranscriptionMetrics
from .ports.quota import UNLIMITED, Quota
from .ports.speech_model import GREEDY, Decoding, SpeechModel
from .ports.voice_activity_detector import VoiceActivityDetector
from .segmenter import Segmenter, segmenter_for

_MOST_AHEAD = 32
"""Windows of one recording, which are kept in memory until they are read."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What one recording may ask for.

    Attributes:
        longest_unchunked_s: Longest recording that is taken without chunking; it is one window.
        longest_s: Longest recording that is taken at all.
        window_s: Longest window with chunking. With and without, the model's own limit wins where it is shorter.
        overlap_s: What windows share where no quiet place parts them.
        timeout_s: Longest time that the work may take.
        windows_ahead: Windows of one recording that may wait for the model at once; ``None``: as many as the model reads
            at once, but no more than 32.
        blocks_heard: Blocks of four or eight seconds of one recording that may be with the detector at once.
    """

    longest_unchunked_s: float
    longest_s: float
    window_s: float
    overlap_s: float
    timeout_s: float
    windows_ahead: int | None
    blocks_heard: int = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """The news of one window of a recording; times are those before the transcript sets them straight.

    Attributes:
        finalized: Words that became final with this window; they follow those of earlier windows and never change.
        draft: The words after the last finalized one as they read now, still subject to the next seam.
        done_s: How far the recording has been read.
        channel: Whose words these are, counted from 0; ``None`` where all channels are mixed.
    """

    finalized: tuple[Word, ...]
    draft: tuple[Word, ...]
    done_s: float
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class TranscribeFile:
    """Decodes a recording as it arrives, reads what is spoken window by window, and joins the words.

    With a `detector` the model is given nothing but speech: silence costs no inference, and noise gives no words.
    Memory is bounded by a few windows, whatever the recording's length. Cancelling it stops the work. What was
    transcribed is counted, and charged to the caller.
    """

    model: SpeechModel
    decoder: AudioDecoder
    limits: FileLimits
    detector: VoiceActivityDetector | None = None
    quota: Quota = UNLIMITED
    metrics: TranscriptionMetrics = NO_METRICS
    model_of: Callable[[int], SpeechModel] | None = None
    """What stands in for the model, by the number of the channel that is read: 0 where all are mixed."""

    async def __call__(
        self,
        source: AsyncIterable[bytes],
        *,
        caller: str | None = None,
        chunked: bool = True,
        decoding: Decoding = GREEDY,
        detection: VadParams | None = None,
        track: int | None = None,
        separate: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Transcript:
        """Transcribe one recording.

        Args:
            source: The recording's bytes, whatever its format.
            caller: Whom to charge for the audio, by the name that `Quota` knows; ``None`` charges nobody.
            chunked: Take recordings longer than one window's limit, too.
            decoding: How the model is to choose among tokens.
            detection: When audio counts as speech, and how long a pause parts it into windows; ``None`` leaves that
                to us. Without `chunked` a pause parts nothing.
            track: Which audio track to transcribe, counted from 1; ``None`` takes the one that is marked as default.
            separate: Read each channel by itself, instead of their mix. One that says what another one says, such as
                that of dual mono, is read once; a channel that is read is charged like a recording.
            on_progress: Called in the event loop after each window.

        Raises:
            InvalidRequestError: `detection` was asked for, and there is no detector; there is no such `track`; or there
                are more channels than are read separately.
            EmptyAudioError, UndecodableAudioError, AudioTooLongError: The recording is at fault.
            ModelNotReadyError, OverloadedError, ProcessingTimeoutError: Later, it may work.
            DecoderUnavailableError, InferenceError: The service is at fault.
        """
        if detection is not None and self.detector is None:
            raise InvalidRequestError("Voice activity detection is disabled.", param="detection")
        began = time.perf_counter()
        timeout = asyncio.timeout(self.limits.timeout_s)
        try:
            async with timeout:
                transcript, channels_read = await self._transcribe(
                    source,
                    chunked=chunked,
                    decoding=decoding,
                    detection=detection,
                    track=track,
                    separate=separate,
                    on_progress=on_progress,
                )
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise ProcessingTimeoutError(limit_s=self.limits.timeout_s) from error
        self.metrics.recording_transcribed(audio_s=transcript.duration_s, took_s=time.perf_counter() - began)
        if caller is not None:
            # If this exceeds the caller's limit, its next request is refused: this one has been served.
            with suppress(RateLimitError):
                await self.quota.charge(caller, transcript.duration_s * max(channels_read, 1))
        return transcript

    async def _transcribe(
        self,
        source: AsyncIterable[bytes],
        *,
        chunked: bool,
        decoding: Decoding,
        detection: VadParams | None,
        track: int | None,
        separate: bool,
        on_progress: Callable[[Progress], None] | None,
    ) -> tuple[Transcript, int]:
        """The transcript, and how many channels were read."""
        model = self.model.describe()
        rate_hz = model.sample_rate_hz
        window_s = min(self.limits.window_s if chunked else self.limits.longest_unchunked_s, model.max_window_s)

        def another_channel() -> ChannelWindows:
            segmenter = self._segmenter(
                detection or VadParams(silence_s=model.pause_s), rate_hz, window_s=window_s, chunked=chunked
            )
            cutter = SpeechCutter(sample_rate_hz=rate_hz, longest_s=window_s, overlap_s=self.limits.overlap_s)
            return ChannelWindows(segmenter, cutter)

        audio = ChannelsOfRecording(another_channel, separate=separate)
        words: defaultdict[int, _GrowingTranscript] = defaultdict(_GrowingTranscript)
        # Each generator is closed here: one that an exception leaves behind would end only some time later.
        async with (
            self.decoder.open(source, sample_rate_hz=rate_hz, track=track, separate=separate) as decoded,
            aclosing(self._within_limits(decoded.blocks, rate_hz, chunked=chunked)) as blocks,
            aclosing(in_blocks(blocks, sample_rate_hz=rate_hz, separate=separate)) as gathered,
            aclosing(audio.windows(gathered, at_once=self.limits.blocks_heard)) as windows,
            aclosing(self._read_in_order(windows, decoding)) as results,
        ):
            async for number, window, tokens in results:
                news = words[number].add(window, tokens)
                if on_progress is not None:
                    on_progress(Progress(news, words[number].draft, window.end_s, channel=number if separate else None))
        duration_s = audio.received / rate_hz
        transcripts = [
            Transcript.of(words[number].words, duration_s=duration_s, speech=one.scores, warnings=decoded.warnings)
            for number, one in enumerate(audio.channels)
        ]
        is_read = sum(one.is_read for one in audio.channels)
        if separate:
            return Transcript.of_channels(transcripts, duration_s=duration_s, warnings=decoded.warnings), is_read
        return transcripts[0], is_read

    def _segmenter(self, detection: VadParams, rate_hz: int, *, window_s: float, chunked: bool) -> Segmenter:
        return segmenter_for(
            self.detector,
            detection if chunked else replace(detection, silence_s=LONGEST_PAUSE_S),
            sample_rate_hz=rate_hz,
            # In noise no place is quiet: the detector knows pauses in which a long span can be cut.
            long_s=window_s / 2 if chunked else math.inf,
            keep_scores=True,
        )

    async def _within_limits(
        self, blocks: AsyncIterator[Samples], sample_rate_hz: int, *, chunked: bool
    ) -> AsyncGenerator[Samples]:
        limit_s = self.limits.longest_s if chunked else min(self.limits.longest_unchunked_s, self.limits.longest_s)
        samples = 0
        async for block in blocks:
            samples += len(block)
            if samples > limit_s * sample_rate_hz:
                duration_s = samples / sample_rate_hz
                raise AudioTooLongError(limit_s=limit_s, duration_s=duration_s, chunking_helps=not chunked)
            yield block

    async def _read_in_order(
        self, windows: AsyncIterator[tuple[int, AudioWindow]], decoding: Decoding
    ) -> AsyncGenerator[tuple[int, AudioWindow, tuple[Token, ...]]]:
        """Keep a few windows with the model, so that it never waits for us, and give the results in order."""
        ahead: deque[tuple[int, AudioWindow, asyncio.Task[tuple[Token, ...]]]] = deque()
        most_ahead = self.limits.windows_ahead or min(self.model.describe().batch_size, _MOST_AHEAD)
        first = True
        try:
            async for number, window in windows:
                while ahead and (ahead[0][2].done() or len(ahead) >= most_ahead):
                    channel, done, task = ahead.popleft()
                    yield channel, done, await task
                ahead.append(
                    (number, window, asyncio.create_task(self._read(number, window, decoding, patient=not first)))
                )
                first = False
            while ahead:
                channel, done, task = ahead.popleft()
                yield channel, done, await task
        finally:
            for *_, task in ahead:
                task.cancel()
            await asyncio.gather(*(task for *_, task in ahead), return_exceptions=True)

    async def _read(self, number: int, window: AudioWindow, decoding: Decoding, *, patient: bool) -> tuple[Token, ...]:
        """Read a window; a recording that has been let in waits its turn, where a new one is turned away."""
        model = self.model if self.model_of is None else self.model_of(number)
        while True:
            try:
                return await model.transcribe(window.samples, after_s=window.start_s, decoding=decoding)
            except OverloadedError as busy:
                if not patient:
                    raise
                await asyncio.sleep(busy.retry_after_s)


class _GrowingTranscript:
    """The words of one channel, window by window."""

    def __init__(self) -> None:
        self._finalized: list[Word] = []
        self.draft: tuple[Word, ...] = ()

    @property
    def words(self) -> tuple[Word, ...]:
        return (*self._finalized, *self.draft)

    def add(self, window: AudioWindow, tokens: tuple[Token, ...]) -> tuple[Word, ...]:
        """The words that became final."""
        heard = words_of(token.shifted(window.start_s) for token in tokens)
        words = join_at_seam(self.draft, heard, overlap_s=(window.start_s, window.seam_s))
        count = finalized_count(words, overlap_s=(window.next_s, window.end_s))
        self.draft = words[count:]
        self._finalized.extend(words[:count])
        return words[:count]
