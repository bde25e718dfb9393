"""The windows of recordings and of live streams, made here and run by whatever has an engine."""

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

_SHORT_S = 20.0
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

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        """See the port."""
        engine, submitter = self._ready()
        job = EncoderJob(samples, decoding=decoding)
        if job.searched and not engine.description.searches:
            raise InvalidRequestError(f"{engine.description.id} supports neither beam search nor phrases.")
        # Models imagine words in silence.
        if is_silence(samples, engine.description.sample_rate_hz):
            return ()
        # Beam search takes a multiple of the time, and yields to others.
        urgency = Urgency.SHORT if after_s < _SHORT_S and not job.searched else Urgency.LONG
        return (await submit(submitter, job, urgency)).finalized

    @asynccontextmanager
    async def open_stream(self, context: StreamContext) -> AsyncGenerator["EngineStream"]:
        """See the port."""
        engine, submitter = self._ready()
        if not engine.can_stream:
            raise InferenceError(f"{engine.description.id} cannot transcribe live audio: only transducers can.")
        if self._streams >= self._most_streams:
            raise TooManyStreamsError(f"All {self._most_streams} live streams are in use.", retry_after_s=5)
        self._streams += 1
        self._metrics.streams_changed(open_now=self._streams)
        try:
            yield EngineStream(BufferedStream(engine, context), submitter)
        finally:
            self._streams -= 1
            self._metrics.streams_changed(open_now=self._streams)


class EngineStream:
    """The port RecognitionStream: the jobs of one stream, which run before those of any recording."""

    def __init__(self, stream: BufferedStream, submitter: Submitter) -> None:
        """Begin with silence."""
        self._stream = stream
        self._submitter = submitter

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        """See the port."""
        if start_s is not None:
            self._stream.begin(start_s)
        return await self._run(self._stream.next_job()) if self._stream.append(samples) else None

    async def flush(self) -> Hypothesis:
        """See the port."""
        return await self._run(self._stream.last_job())

    async def _run(self, job: EncoderJob | None) -> Hypothesis:
        if job is None:
            return self._stream.accept_silence()
        return self._stream.accept(await submit(self._submitter, job, Urgency.LIVE))


async def submit(submitter: Submitter, job: EncoderJob, urgency: Urgency) -> DecodeResult:
    """Run a job; whatever the engine raises is logged, and an `InferenceError` to the caller."""
    try:
        return await submitter.submit(job, urgency)
    except (InferenceError, RuntimeError, ValueError, MemoryError) as error:
        _log.exception("inference_failed")
        raise InferenceError("The model failed on this audio.") from error
