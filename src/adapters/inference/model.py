"""The SpeechModel port on any engine: one queue, one thread, and live streams."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog

from ...application.ports.metrics import ModelMetrics, NullMetrics
from ...application.ports.speech_model import GREEDY, Decoding, ModelDescription, StreamContext
from ...domain.audio import Samples, is_silence
from ...domain.errors import (
    InferenceError,
    InvalidRequestError,
    ModelLoadError,
    ModelNotReadyError,
    TooManyStreamsError,
)
from ...domain.hypothesis import Hypothesis
from ...domain.transcript import Token
from .buffered_stream import BufferedStream
from .engine import Engine
from .jobs import DecodeResult, EncoderJob
from .scheduler import Scheduler, Urgency

_log = structlog.get_logger()

_SHORT_S = 20.0
"""Windows that lie further back than this in a recording wait until those of shorter ones are read."""


class EngineModel:
    """One engine behind one queue and one thread; loaded by `start`, freed by `aclose`."""

    def __init__(
        self,
        load: Callable[[], Engine],
        *,
        sample_rate_hz: int,
        batch_size: int,
        most_waiting: int,
        most_streams: int,
        context: StreamContext | None = None,
        metrics: ModelMetrics | None = None,
    ) -> None:
        """Remember what to load.

        Args:
            load: Loads the engine; called once, in the thread that then owns it. Raises `ModelLoadError`.
            sample_rate_hz: What the model must take.
            batch_size: Jobs read at once, at most.
            most_waiting: Jobs of recordings that may wait.
            most_streams: Live streams at once.
            context: How most of them will be cut: a GPU prepares for that at the start.
            metrics: Counts jobs and streams.
        """
        self._load = load
        self._sample_rate_hz = sample_rate_hz
        self._batch_size = batch_size
        self._most_waiting = most_waiting
        self._most_streams = most_streams
        self._context = context
        self._metrics = metrics or NullMetrics()
        self._streams = 0
        self._scheduler: Scheduler[EncoderJob, DecodeResult] | None = None
        self._engine: Engine | None = None
        self._failure: ModelLoadError | None = None

    async def start(self) -> None:
        """Fetch, load and warm up the model.

        Raises:
            ModelLoadError: It cannot be found or loaded; so says `describe` from then on.
        """
        self._scheduler = Scheduler(
            most_waiting=self._most_waiting, most_per_batch=self._batch_size, metrics=self._metrics
        )
        try:
            await self._scheduler.start(self._loaded)
        except ModelLoadError as error:
            self._failure = error
            raise
        description = self.describe()
        self._metrics.model_loaded(description)
        _log.info("model_loaded", **_facts(description))
        if description.note:
            _log.warning("model_note", note=description.note)

    async def aclose(self) -> None:
        """Finish the batch at work, drop what waits, and free the model."""
        if self._scheduler is not None:
            # A model that is still being fetched is not waited for.
            patience_s = 0.0 if self._engine is None else 10.0
            await asyncio.to_thread(partial(self._scheduler.stop, patience_s=patience_s))
        self._scheduler = self._engine = None

    def describe(self) -> ModelDescription:
        """See the port."""
        return self._ready()[0].description

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        """See the port."""
        engine, scheduler = self._ready()
        searched = decoding != GREEDY
        if searched and not engine.description.searches:
            model_id = engine.description.id
            raise InvalidRequestError(f"{model_id} cannot search: it favours no phrases and keeps no beam.")
        # Models imagine words in silence.
        if is_silence(samples, engine.description.sample_rate_hz):
            return ()
        # A search takes a multiple of the time, and gives way.
        urgency = Urgency.SHORT if after_s < _SHORT_S and not searched else Urgency.LONG
        return (await _read(scheduler, EncoderJob(samples, decoding=decoding), urgency)).finalized

    @asynccontextmanager
    async def open_stream(self, context: StreamContext) -> AsyncGenerator["EngineStream"]:
        """See the port."""
        engine, scheduler = self._ready()
        if self._streams >= self._most_streams:
            raise TooManyStreamsError(f"All {self._most_streams} live streams are taken.", retry_after_s=5)
        self._streams += 1
        self._metrics.streams_changed(open_now=self._streams)
        try:
            yield EngineStream(BufferedStream(engine, context), scheduler)
        finally:
            self._streams -= 1
            self._metrics.streams_changed(open_now=self._streams)

    def _loaded(self) -> Engine:
        engine = self._load()
        rate_hz = engine.description.sample_rate_hz
        if rate_hz != self._sample_rate_hz:
            message = (
                f"{engine.description.id} takes {rate_hz} Hz, and the service is set to {self._sample_rate_hz} Hz."
            )
            raise ModelLoadError(message)
        engine.warm_up(self._live_batches(engine))
        self._engine = engine
        return engine

    def _live_batches(self, engine: Engine) -> Sequence[Sequence[EncoderJob]]:
        if self._context is None or not engine.reads_live:
            return ()
        window = BufferedStream(engine, self._context).whole
        # A longer one is for the use-case to refuse.
        fits = engine.seconds(window) <= engine.description.max_window_s
        return engine.shapes(window, most=min(self._batch_size, self._most_streams)) if fits else ()

    def _ready(self) -> tuple[Engine, Scheduler[EncoderJob, DecodeResult]]:
        if self._failure is not None:
            raise self._failure
        if self._engine is None or self._scheduler is None:
            raise ModelNotReadyError("The model is being loaded.", retry_after_s=5)
        return self._engine, self._scheduler


class EngineStream:
    """The port RecognitionStream: one stream's windows, read before any file's."""

    def __init__(self, windows: BufferedStream, scheduler: Scheduler[EncoderJob, DecodeResult]) -> None:
        """Begin with silence."""
        self._windows = windows
        self._scheduler = scheduler

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        """See the port."""
        if start_s is not None:
            self._windows.begin(start_s)
        return await self._decode(self._windows.step()) if self._windows.push(samples) else None

    async def flush(self) -> Hypothesis:
        """See the port."""
        return await self._decode(self._windows.flush())

    async def _decode(self, window: EncoderJob | None) -> Hypothesis:
        if window is None:
            return self._windows.nothing()
        return self._windows.accept(await _read(self._scheduler, window, Urgency.LIVE))


async def _read(scheduler: Scheduler[EncoderJob, DecodeResult], window: EncoderJob, urgency: Urgency) -> DecodeResult:
    try:
        return await scheduler.read(window, urgency)
    except (InferenceError, RuntimeError, ValueError, MemoryError) as error:
        _log.exception("inference_failed")
        raise InferenceError("The model failed on this audio.") from error


def _facts(description: ModelDescription) -> dict[str, object]:
    return {
        "model": description.id,
        "architecture": description.architecture,
        "precision": description.precision,
        "compute": description.compute,
        "device": description.device,
        "blas": description.blas,
    }
