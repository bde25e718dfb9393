"""The port SpeechModel by parakeet-mlx, for asyncio callers."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog

from ...application.ports.meter import Meter, Unmetered
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
from . import blas
from .checkpoint import Precision, locate
from .scheduler import Scheduler, Urgency

if TYPE_CHECKING:
    from .engine import Engine
    from .live_stream import LiveWindows
    from .window import Reading, Window

_log = structlog.get_logger()

_SHORT_S = 20.0
"""Windows that lie further back than this in a recording wait until those of shorter ones are read."""


class ParakeetMlxModel:
    """A Parakeet model behind one queue and one thread; loaded by `start`, freed by `aclose`."""

    def __init__(
        self,
        *,
        model_id: str,
        precision: Precision,
        offline: bool,
        sample_rate_hz: int,
        batch_size: int,
        cache_limit_bytes: int,
        most_waiting: int,
        most_streams: int,
        context: StreamContext | None = None,
        meter: Meter | None = None,
    ) -> None:
        """Remember what to load.

        Args:
            model_id: ``embedded``, a directory, or a Hub id.
            precision: Of the weights.
            offline: Never ask the Hub.
            sample_rate_hz: What the model must take.
            batch_size: Windows read at once, at most.
            cache_limit_bytes: What MLX may keep of freed buffers.
            most_waiting: Windows of recordings that may wait.
            most_streams: Live streams at once.
            context: How most of them will be cut: a GPU prepares for that at the start.
            meter: Hears of windows and streams.
        """
        self._model_id = model_id
        self._precision: Precision = precision
        self._offline = offline
        self._sample_rate_hz = sample_rate_hz
        self._batch_size = batch_size
        self._cache_limit_bytes = cache_limit_bytes
        self._most_waiting = most_waiting
        self._most_streams = most_streams
        self._context = context
        self._meter = meter or Unmetered()
        self._streams = 0
        self._scheduler: Scheduler[Window, Reading] | None = None
        self._engine: Engine | None = None
        self._failure: ModelLoadError | None = None

    async def start(self) -> None:
        """Fetch, load and warm up the model.

        Raises:
            ModelLoadError: It cannot be found or loaded; so says `describe` from then on.
        """
        self._scheduler = Scheduler(most_waiting=self._most_waiting, most_per_batch=self._batch_size, meter=self._meter)
        try:
            await self._scheduler.start(self._load)
        except ModelLoadError as error:
            self._failure = error
            raise
        description = self.describe()
        self._meter.model_loaded(description)
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
            raise InvalidRequestError(f"{self._model_id} cannot search: it favours no phrases and keeps no beam.")
        # Models imagine words in silence.
        if is_silence(samples, engine.description.sample_rate_hz):
            return ()
        from .window import Window  # noqa: PLC0415 - imports MLX, see blas

        # A search takes a multiple of the time, and gives way.
        urgency = Urgency.SHORT if after_s < _SHORT_S and not searched else Urgency.LONG
        return (await _read(scheduler, Window(samples, decoding=decoding), urgency)).finalized

    @asynccontextmanager
    async def open_stream(self, context: StreamContext) -> AsyncGenerator["ParakeetMlxStream"]:
        """See the port."""
        engine, scheduler = self._ready()
        if self._streams >= self._most_streams:
            raise TooManyStreamsError(f"All {self._most_streams} live streams are taken.", retry_after_s=5)
        self._streams += 1
        self._meter.streams_changed(open_now=self._streams)
        try:
            from .live_stream import LiveWindows  # noqa: PLC0415 - imports MLX, see blas

            yield ParakeetMlxStream(LiveWindows(engine, context), scheduler)
        finally:
            self._streams -= 1
            self._meter.streams_changed(open_now=self._streams)

    def _load(self) -> "Engine":
        checkpoint = locate(self._model_id, offline=self._offline)
        chosen = blas.preload()
        if chosen is not None and chosen.slow:
            _log.warning("slow_blas", blas=chosen.name, hint="install the wheel scipy-openblas32, or libopenblas")
        from .engine import Engine  # noqa: PLC0415 - importing MLX binds its BLAS and, on Metal, its thread

        engine = Engine(checkpoint, precision=self._precision, blas=chosen, cache_limit_bytes=self._cache_limit_bytes)
        rate_hz = engine.description.sample_rate_hz
        if rate_hz != self._sample_rate_hz:
            raise ModelLoadError(f"TARGET_SR: {self._model_id} takes {rate_hz} Hz, not {self._sample_rate_hz}.")
        engine.warm_up(self._live_batches(engine))
        self._engine = engine
        return engine

    def _live_batches(self, engine: "Engine") -> "Sequence[Sequence[Window]]":
        if self._context is None or not engine.reads_live:
            return ()
        from .live_stream import LiveWindows  # noqa: PLC0415 - imports MLX, see blas

        window = LiveWindows(engine, self._context).whole
        # A longer one is for the use-case to refuse.
        fits = engine.seconds(window) <= engine.description.max_window_s
        return engine.shapes(window, most=min(self._batch_size, self._most_streams)) if fits else ()

    def _ready(self) -> tuple["Engine", "Scheduler[Window, Reading]"]:
        if self._failure is not None:
            raise self._failure
        if self._engine is None or self._scheduler is None:
            raise ModelNotReadyError("The model is being loaded.", retry_after_s=5)
        return self._engine, self._scheduler


class ParakeetMlxStream:
    """The port SpeechStream: one stream's windows, read before any file's."""

    def __init__(self, windows: "LiveWindows", scheduler: "Scheduler[Window, Reading]") -> None:
        """Begin with silence."""
        self._windows = windows
        self._scheduler = scheduler

    async def push(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        """See the port."""
        if start_s is not None:
            self._windows.begin(start_s)
        return await self._decode(self._windows.step()) if self._windows.push(samples) else None

    async def flush(self) -> Hypothesis:
        """See the port."""
        return await self._decode(self._windows.flush())

    async def _decode(self, window: "Window | None") -> Hypothesis:
        if window is None:
            return self._windows.nothing()
        return self._windows.accept(await _read(self._scheduler, window, Urgency.LIVE))


async def _read(scheduler: "Scheduler[Window, Reading]", window: "Window", urgency: Urgency) -> "Reading":
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
