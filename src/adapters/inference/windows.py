"""The windows of recordings and of live streams, made here and run by whatever has an engine."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from ...application.ports.metrics import ModelMetrics
from ...application.ports.speech_model import GREEDY, Decoding, StreamContext
from ...domain.audio import Samples, is_silence
from ...domain.errors import InferenceError, InvalidRequestError, TooManyStreamsError
from ...domain.hypothesis import Hypothesis
from ...domain.transcript import Token
from .buffered_stream import BufferedStream
from .engine import KnownEngine
from .job_queue import Urgency
from .jobs import DecodeResult, EncoderJob

_log = structlog.get_logger()

_SHORT_S = 30.0
"""Windows further into a recording than this yield to those of shorter recordings."""


class Submitter(Protocol):
    """Queues jobs and runs them."""

    async def submit(self, job: EncoderJob, urgency: Urgency) -> DecodeResult:
        """See `Scheduler.submit`."""
        ...


class Windows:
    """The two ways into a model, `transcribe` and `open_stream`, of the port SpeechModel."""

    def __init__(
        self,
        ready: Callable[[], tuple[KnownEngine, Submitter]],
        *,
        most_streams: int,
        metrics: ModelMetrics,
    ) -> None:
        """Begin without a stream.

        Args:
            ready: What is known of the engine, and what runs its jobs; raises where the model is not ready.
            most_streams: Live streams at once.
            metrics: Counts streams.
        """
        self._ready = ready
        self._most_streams = most_streams
        self._metrics = metrics
        self._streams = 0
        self._turns = asyncio.Semaphore(1)

    def allow_drafts(self, count: int) -> None:
        """Have the drafts of so many streams be computed at once; called before there are streams."""
        self._turns = asyncio.Semaphore(count)

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        """See the port."""
        engine, submitter = self._ready()
        _check(decoding, engine)
        job = EncoderJob(samples, decoding=decoding)
        # Models imagine words in silence.
        if is_silence(samples, engine.description.sample_rate_hz):
            return ()
        # Beam search takes a multiple of the time, and yields to others.
        urgency = Urgency.SHORT if after_s < _SHORT_S and not job.searched else Urgency.LONG
        return (await submit(submitter, job, urgency)).finalized

    @asynccontextmanager
    async def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AsyncGenerator["EngineStream"]:
        """See the port."""
        engine, submitter = self._ready()
        _check(decoding, engine)
        if not engine.can_stream:
            raise InferenceError(f"{engine.description.id} cannot transcribe live audio: only transducers can.")
        if self._streams >= self._most_streams:
            raise TooManyStreamsError(f"All {self._most_streams} live streams are in use.", retry_after_s=5)
        self._streams += 1
        self._metrics.streams_changed(open_now=self._streams)
        try:
            yield EngineStream(BufferedStream(engine, context, decoding=decoding), submitter, self._turns)
        finally:
            self._streams -= 1
            self._metrics.streams_changed(open_now=self._streams)


class EngineStream:
    """The port RecognitionStream: the jobs of one stream, which run before those of any recording.

    A draft is made of all that has arrived when its turn comes, and turns are given no faster than the engine takes
    them: the more streams there are, the longer are the steps in which their drafts grow, and none falls behind.
    """

    def __init__(self, stream: BufferedStream, submitter: Submitter, turns: asyncio.Semaphore) -> None:
        """Begin with silence."""
        self._stream = stream
        self._submitter = submitter
        self._turns = turns
        self._drafting: asyncio.Task[Hypothesis] | None = None

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        """See the port."""
        if start_s is not None:
            self._abandon_draft()
            self._stream.begin(start_s)
        if not self._stream.append(samples) or self._drafting is not None:
            return None
        drafting = self._drafting = asyncio.create_task(self._draft())
        try:
            await asyncio.wait((drafting,))
        finally:
            drafting.cancel()
            if self._drafting is drafting:
                self._drafting = None
        return None if drafting.cancelled() else drafting.result()

    async def flush(self) -> Hypothesis:
        """See the port."""
        self._abandon_draft()
        return await self._run(self._stream.last_job(), Urgency.FINAL)

    def _abandon_draft(self) -> None:
        if self._drafting is not None:
            self._drafting.cancel()
            self._drafting = None

    async def _draft(self) -> Hypothesis:
        async with self._turns:
            return await self._run(self._stream.next_job(), Urgency.LIVE)

    async def _run(self, job: EncoderJob | None, urgency: Urgency) -> Hypothesis:
        if job is None:
            return self._stream.accept_silence()
        return self._stream.accept(await submit(self._submitter, job, urgency))


def _check(decoding: Decoding, engine: KnownEngine) -> None:
    if decoding != GREEDY and not engine.description.searches:
        raise InvalidRequestError(f"{engine.description.id} supports neither beam search nor phrases.")


async def submit(submitter: Submitter, job: EncoderJob, urgency: Urgency) -> DecodeResult:
    """Run a job; whatever the engine raises is logged, and an `InferenceError` to the caller."""
    try:
        return await submitter.submit(job, urgency)
    except (InferenceError, RuntimeError, ValueError, MemoryError) as error:
        _log.exception("inference_failed")
        raise InferenceError("The model failed on this audio.") from error
