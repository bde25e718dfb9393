"""A recording in which every word can be heard, and a decoder, a model and a resampler that do as they are told."""

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np

from parakeet_service.application.ports.audio_decoder import DecodedAudio
from parakeet_service.application.ports.speech_model import (
    GREEDY,
    Decoding,
    ModelDescription,
    RecognitionStream,
    StreamContext,
)
from parakeet_service.domain.audio import NO_SAMPLES, Samples
from parakeet_service.domain.hypothesis import Hypothesis
from parakeet_service.domain.recording_warnings import RecordingWarning
from parakeet_service.domain.transcript import Token

RATE_HZ = 100
WORD_S = 0.5
_STEP = 1e-4
"""The n-th word is spoken at a level of a half and n such steps: all are about as loud."""


def speech(*numbers: int, pause_s: float = 0.0) -> Samples:
    """The words of these numbers, half a second each, with a pause behind each."""
    pause = np.zeros(round(pause_s * RATE_HZ), np.float32)
    spoken = [np.full(round(WORD_S * RATE_HZ), 0.5 + number * _STEP, np.float32) for number in numbers]
    return np.concatenate([NO_SAMPLES, *(part for one in spoken for part in (one, pause))])


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def text_of(numbers: Sequence[int]) -> str:
    return " ".join(f"w{number}" for number in numbers)


def heard(samples: Samples) -> tuple[Token, ...]:
    """The words of which more than half can be heard; their pieces are ``" w"`` and the number."""
    tokens: list[Token] = []
    levels = np.rint((samples - 0.5) / _STEP).astype(int)
    edges = [0, *(np.flatnonzero(np.diff(levels)) + 1).tolist(), len(levels)]
    for begin, end in pairwise(edges):
        if begin < end and levels[begin] >= 0 and (end - begin) / RATE_HZ > WORD_S / 2:
            middle_s = (begin + end) / 2 / RATE_HZ
            tokens.append(Token(0, " w", begin / RATE_HZ, middle_s, 1.0))
            tokens.append(Token(1, str(levels[begin]), middle_s, end / RATE_HZ, 1.0))
    return tuple(tokens)


class Upload:
    """Bytes that arrive in pieces; after the last one `error` is raised, if there is one."""

    def __init__(self, samples: Samples, *, piece: int = 50, error: Exception | None = None) -> None:
        self._pieces = iter([samples[at : at + piece] for at in range(0, len(samples), piece)])
        self._error = error
        self.pulled_s = 0.0

    def __aiter__(self) -> "Upload":
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            self.pulled_s += len(piece) / RATE_HZ
            return piece.tobytes()
        raise self._error or StopAsyncIteration


class Decoder:
    """Takes the bytes for samples, of so many channels if they are separate; leaves its generator to whoever iterates, and notes what is open."""

    def __init__(self) -> None:
        self.open_now = 0
        self.opened = 0
        self.reading = 0
        self.channels = 1
        self.tracks: list[int | None] = []
        self.warnings: list[RecordingWarning] = []

    @asynccontextmanager
    async def open(
        self, source: AsyncIterable[bytes], *, sample_rate_hz: int, track: int | None = None, separate: bool = False
    ) -> AsyncGenerator[DecodedAudio]:
        assert sample_rate_hz == RATE_HZ
        self.opened += 1
        self.open_now += 1
        self.tracks.append(track)
        try:
            async with aclosing(self._blocks(source, separate=separate)) as blocks:
                yield DecodedAudio(blocks, self.warnings)
        finally:
            self.open_now -= 1

    async def _blocks(self, source: AsyncIterable[bytes], *, separate: bool) -> AsyncGenerator[Samples]:
        self.reading += 1
        try:
            async for data in source:
                samples = np.frombuffer(data, np.float32)
                yield samples.reshape(-1, self.channels) if separate else samples
        finally:
            self.reading -= 1


async def _at_once(_: int) -> None:
    """Do not wait."""


class Model:
    """Hears every word; `before` is awaited for the n-th call before it answers, and may wait or fail."""

    def __init__(
        self,
        *,
        before: Callable[[int], Awaitable[object]] = _at_once,
        max_window_s: float = 60.0,
        batch_size: int = 4,
        pause_s: float = 0.8,
        not_ready: Exception | None = None,
        stream: "Stream | None" = None,
    ) -> None:
        self._before = before
        self._max_window_s = max_window_s
        self._batch_size = batch_size
        self._pause_s = pause_s
        self._not_ready = not_ready
        self._stream = stream
        self.windows: list[Samples] = []
        self.asked: list[tuple[float, Decoding]] = []
        self.running = 0
        self.most_running = 0
        self.cancelled = 0
        self.contexts: list[StreamContext] = []
        self.open_streams = 0

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def describe(self) -> ModelDescription:
        if self._not_ready is not None:
            raise self._not_ready
        return ModelDescription(
            *("model", "double", ("en", "de"), "none", "none", "none", None, RATE_HZ, self._max_window_s),
            batch_size=self._batch_size,
            pause_s=self._pause_s,
        )

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        number = len(self.windows)
        self.asked.append((after_s, decoding))
        self.windows.append(samples)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self._before(number)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return heard(samples)

    @asynccontextmanager
    async def open_stream(self, context: StreamContext) -> AsyncGenerator[RecognitionStream]:
        assert self._stream is not None
        self.contexts.append(context)
        self.open_streams += 1
        try:
            yield self._stream
        finally:
            self.open_streams -= 1


class Stream:
    """Decodes whenever a chunk is complete; a word is final once `right_s` of audio has followed it.

    Each of `push_errors` and `flush_errors` is raised once, by the decoding of that number. With `full_stops` every
    word that is final ends a sentence.
    """

    def __init__(
        self,
        *,
        chunk_s: float = 1.0,
        right_s: float = 1.0,
        push_errors: dict[int, Exception] | None = None,
        flush_errors: dict[int, Exception] | None = None,
        full_stops: bool = False,
    ) -> None:
        self._full_stops = full_stops
        self._chunk = round(chunk_s * RATE_HZ)
        self._right_s = right_s
        self._push_errors = push_errors or {}
        self._flush_errors = flush_errors or {}
        self._samples = NO_SAMPLES
        self._decoded = 0
        self._final = 0
        self.pushes: list[int] = []
        self.starts: list[float] = []
        self.flushes = 0

    @property
    def received(self) -> Samples:
        """What it was given since the last beginning; before that, silence."""
        return self._samples

    def append(self, samples: Samples) -> None:
        """Take samples, and do nothing with them yet."""
        self._samples = np.concatenate([self._samples, samples])

    def _begin(self, start: int) -> None:
        self.starts.append(start / RATE_HZ)
        self._samples = np.full(start, -1, np.float32)
        self._decoded = start
        self._final = 0

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        self.pushes.append(len(samples))
        if start_s is not None:
            self._begin(round(start_s * RATE_HZ))
        self.append(samples)
        if len(self._samples) < self._decoded + self._chunk:
            return None
        self._decoded = len(self._samples) // self._chunk * self._chunk
        error = self._push_errors.pop(self._decoded // self._chunk - 1, None)
        if error is not None:
            raise error
        return self._decode(final_until_s=self._decoded / RATE_HZ - self._right_s)

    async def flush(self) -> Hypothesis:
        self.flushes += 1
        error = self._flush_errors.pop(self.flushes - 1, None)
        if error is not None:
            raise error
        self._decoded = len(self._samples)
        return self._decode(final_until_s=self._decoded / RATE_HZ)

    def _decode(self, *, final_until_s: float) -> Hypothesis:
        tokens = heard(self._samples[: self._decoded])
        known = max(self._final, sum(token.end_s <= final_until_s for token in tokens))
        finalized, self._final = tokens[self._final : known], known
        if self._full_stops:
            finalized = tuple(replace(one, text=one.text + ".") if one.id else one for one in finalized)
        return Hypothesis(finalized, tokens[known:], max(final_until_s, 0.0), self._decoded / RATE_HZ)


class Resampler:
    """Takes every n-th sample, whatever the rates, and holds some back until the end."""

    def __init__(self, *, every: int = 1, held: int = 0) -> None:
        self._every = every
        self._held = held
        self.opened: list[tuple[int, int]] = []

    def open(self, *, from_hz: int, to_hz: int) -> "_Resampled":
        self.opened.append((from_hz, to_hz))
        return _Resampled(self._every, self._held)


class _Resampled:
    def __init__(self, every: int, held: int) -> None:
        self._every = every
        self._held = held
        self._rest = NO_SAMPLES
        self._ended = False

    def resample(self, samples: Samples, *, last: bool = False) -> Samples:
        assert not self._ended
        self._ended = last
        known = np.concatenate([self._rest, samples])
        ready = len(known) if last else max(len(known) - self._held, 0) // self._every * self._every
        self._rest = known[ready:]
        return known[: ready : self._every]


async def turns(count: int = 30) -> None:
    """Let all other tasks go on until each of them waits for something that only the test can do."""
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def no_loose_ends() -> AsyncGenerator[None]:
    """Nothing may be left behind: no task, and no generator for the garbage collector to close."""
    tasks = asyncio.all_tasks()
    left: list[str] = []
    hooks = sys.get_asyncgen_hooks()

    def note(generator: AsyncGenerator[object]) -> None:
        left.append(repr(generator))
        if hooks.finalizer is not None:
            hooks.finalizer(generator)

    sys.set_asyncgen_hooks(firstiter=hooks.firstiter, finalizer=note)
    try:
        yield
        gc.collect()
        assert not left
        assert asyncio.all_tasks() <= tasks
    finally:
        sys.set_asyncgen_hooks(firstiter=hooks.firstiter, finalizer=hooks.finalizer)
