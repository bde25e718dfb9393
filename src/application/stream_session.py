"""The use-case behind every live protocol: frames of raw audio in, events out."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from ..domain.audio import NO_SAMPLES, Encoding, PcmReader, Samples
from ..domain.errors import InvalidRequestError, OverloadedError
from ..domain.live import LiveEvent, Partial
from ..domain.utterances import UtteranceTracker
from .ports.resampler import Resampler, ResampleStream
from .ports.speech_model import ModelDescription, SpeechModel, SpeechStream, StreamContext


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What a client asks of its session.

    Attributes:
        encoding: How its samples are written.
        sample_rate_hz: Their rate.
        language: ISO 639-1 code, such as ``"en"``; ``None`` leaves it to the model.
        context: How the stream is cut into windows.
        endpoint_s: Silence that ends an utterance.
    """

    encoding: Encoding
    sample_rate_hz: int
    language: str | None
    context: StreamContext
    endpoint_s: float


@dataclass(frozen=True, slots=True)
class StreamSession:
    """Reads live audio as it comes; many sessions run side by side."""

    model: SpeechModel
    resampler: Resampler
    context: StreamContext
    longest_backlog_s: float = 30.0

    @property
    def defaults(self) -> StreamOptions:
        """What a client gets that asks for nothing."""
        return StreamOptions(Encoding.PCM_S16LE, 16000, None, self.context, endpoint_s=0.8)

    def check(self) -> None:
        """Hold the defaults against the loaded model, so that a start fails and not every session after it.

        Raises:
            InvalidRequestError: One cannot be met; it is named.
        """
        _check(self.defaults, self.model.describe())

    @asynccontextmanager
    async def open(self, options: StreamOptions) -> AsyncGenerator["LiveSession"]:
        """Begin a session; leaving the context frees its place, whatever happened.

        Raises:
            InvalidRequestError: An option cannot be met; it is named.
            ModelNotReadyError, TooManyStreamsError: Later, it may work.
        """
        model = self.model.describe()
        _check(options, model)
        async with self.model.open_stream(options.context) as stream:
            yield LiveSession(
                stream,
                PcmReader(options.encoding),
                self.resampler.open(from_hz=options.sample_rate_hz, to_hz=model.sample_rate_hz),
                UtteranceTracker(endpoint_s=options.endpoint_s),
                sample_rate_hz=model.sample_rate_hz,
                chunk_s=options.context.chunk_s,
                longest_backlog_s=self.longest_backlog_s,
            )


class _Mark(Enum):
    """What may stand between samples in a session's inbox."""

    FLUSH = auto()
    CLOSE = auto()


class LiveSession:
    """One speaker. One task feeds it and one reads its events; a slow reader makes the feeder wait."""

    def __init__(
        self,
        stream: SpeechStream,
        reader: PcmReader,
        resampled: ResampleStream,
        tracker: UtteranceTracker,
        *,
        sample_rate_hz: int,
        chunk_s: float,
        longest_backlog_s: float,
    ) -> None:
        """Begin with silence; `StreamSession.open` is the way here."""
        self._stream = stream
        self._reader = reader
        self._resampled = resampled
        self._tracker = tracker
        self._rate_hz = sample_rate_hz
        self._step = max(int(chunk_s * sample_rate_hz), 1)
        self._most_waiting = int(longest_backlog_s * sample_rate_hz)
        self._inbox: deque[Samples | _Mark] = deque()
        self._waiting = 0
        self._received = 0
        self._changed = asyncio.Condition()

    async def send(self, data: bytes) -> None:
        """Take raw audio in the session's encoding, split anywhere; waits while too much of it is unread."""
        await self._put(self._resampled.push(self._reader.read(data)))

    async def finalize(self) -> None:
        """Ask for a `Final` of what was said so far; the session goes on."""
        await self._put(_Mark.FLUSH)

    async def close(self) -> None:
        """Ask for a `Final` of what was said since the last one, and for the end of the events."""
        await self._put(self._resampled.push(NO_SAMPLES, last=True))
        await self._put(_Mark.CLOSE)

    async def events(self) -> AsyncGenerator[LiveEvent]:
        """What is heard, as soon as it is; ends after `close`.

        Raises:
            InferenceError: The model failed; the session is over.
        """
        while True:
            item = await self._get()
            if isinstance(item, _Mark):
                for event in await self._flush():
                    yield event
                if item is _Mark.CLOSE:
                    return
                continue
            hypothesis = None
            # A full queue costs the listener a step, not the session: the samples are with the stream.
            with suppress(OverloadedError):
                hypothesis = await self._stream.push(item)
            if hypothesis is None:
                continue
            for event in self._tracker.step(hypothesis, received_s=self._received / self._rate_hz):
                yield event
            if self._tracker.paused:
                for event in await self._flush():
                    yield event

    async def _flush(self) -> list[LiveEvent]:
        while True:
            try:
                hypothesis = await self._stream.flush()
                break
            except OverloadedError as busy:
                await asyncio.sleep(busy.retry_after_s)
        events = self._tracker.step(hypothesis, received_s=self._received / self._rate_hz)
        return [*(event for event in events if not isinstance(event, Partial)), *self._tracker.finish()]

    async def _put(self, item: Samples | _Mark) -> None:
        # Nothing may enter that does not count, or the inbox could grow without end.
        if not isinstance(item, _Mark) and not len(item):
            return
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting < self._most_waiting)
            self._inbox.append(item)
            if isinstance(item, _Mark):
                self._waiting += 1
            else:
                self._waiting += len(item)
                self._received += len(item)
            self._changed.notify_all()

    async def _get(self) -> Samples | _Mark:
        """The next mark, or the samples before it, at most a step of them."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._inbox))
            taken: list[Samples] = []
            room = self._step
            while self._inbox and room:
                item = self._inbox.popleft()
                if isinstance(item, _Mark):
                    if not taken:
                        self._waiting -= 1
                        self._changed.notify_all()
                        return item
                    self._inbox.appendleft(item)
                    break
                taken.append(item[:room])
                if len(item) > room:
                    self._inbox.appendleft(item[room:])
                room -= len(taken[-1])
            samples = np.concatenate(taken)
            self._waiting -= len(samples)
            self._changed.notify_all()
            return samples


def _check(options: StreamOptions, model: ModelDescription) -> None:
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
    if not 0.1 <= options.endpoint_s <= 60:
        raise InvalidRequestError("endpoint_silence_ms must be from 100 to 60000.", param="endpoint_silence_ms")
