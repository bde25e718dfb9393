"""The port SpeechModel by parakeet-mlx, for asyncio callers."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import structlog

from ...application.ports.meter import Meter, Unmetered
from ...application.ports.speech_model import GREEDY, Decoding, ModelDescription, StreamContext
from ...domain.audio import Samples
from ...domain.errors import InferenceError, ModelLoadError, ModelNotReadyError, TooManyStreamsError
from ...domain.hypothesis import Hypothesis
from ...domain.transcript import Token
from . import blas
from .checkpoint import locate
from .inference_thread import InferenceThread, Urgency

if TYPE_CHECKING:
    from .engine import Engine
    from .live_stream import LiveWindows

T = TypeVar("T")
Precision = Literal["bf16", "fp32"]
_log = structlog.get_logger()


class ParakeetMlxModel:
    """A Parakeet model behind one inference thread; loaded by `start`, freed by `aclose`."""

    def __init__(
        self,
        *,
        model_id: str,
        precision: Precision,
        offline: bool,
        sample_rate_hz: int,
        most_waiting: int,
        most_streams: int,
        meter: Meter | None = None,
    ) -> None:
        """Remember what to load.

        Args:
            model_id: ``embedded``, a directory, or a Hub id.
            precision: Of the weights.
            offline: Never ask the Hub.
            sample_rate_hz: What the model must take.
            most_waiting: Windows of recordings that may wait.
            most_streams: Live streams at once.
            meter: Hears of windows and streams.
        """
        self._model_id = model_id
        self._precision: Precision = precision
        self._offline = offline
        self._sample_rate_hz = sample_rate_hz
        self._most_waiting = most_waiting
        self._most_streams = most_streams
        self._meter = meter or Unmetered()
        self._streams = 0
        self._thread: InferenceThread | None = None
        self._engine: Engine | None = None
        self._failure: ModelLoadError | None = None

    async def start(self) -> None:
        """Fetch, load and warm up the model.

        Raises:
            ModelLoadError: It cannot be found or loaded; so says `describe` from then on.
        """
        self._thread = InferenceThread(most_waiting=self._most_waiting, meter=self._meter)
        try:
            self._engine = await self._thread.run(self._load, Urgency.FILE)
        except ModelLoadError as error:
            self._failure = error
            raise
        self._meter.model_loaded(self._engine.description)
        _log.info("model_loaded", **_facts(self._engine.description))
        if self._engine.description.note:
            _log.warning("model_note", note=self._engine.description.note)

    async def aclose(self) -> None:
        """Finish the window at work, drop the others, and free the model."""
        if self._thread is not None:
            # A model that is still being fetched is not waited for.
            patience_s = 0.0 if self._engine is None else 10.0
            await asyncio.to_thread(partial(self._thread.stop, patience_s=patience_s))
        self._thread = self._engine = None

    def describe(self) -> ModelDescription:
        """See the port."""
        return self._ready()[0].description

    async def transcribe(
        self,
        samples: Samples,
        *,
        after_s: float = 0.0,  # noqa: ARG002 - the port has it
        decoding: Decoding = GREEDY,  # noqa: ARG002 - the port has it
    ) -> tuple[Token, ...]:
        """See the port."""
        engine, thread = self._ready()
        length_s = len(samples) / engine.description.sample_rate_hz
        return await _translated(thread, lambda: engine.transcribe(samples), Urgency.FILE, audio_s=lambda: length_s)

    @asynccontextmanager
    async def open_stream(self, context: StreamContext) -> AsyncGenerator["ParakeetMlxStream"]:
        """See the port."""
        engine, thread = self._ready()
        if self._streams >= self._most_streams:
            raise TooManyStreamsError(f"All {self._most_streams} live streams are taken.", retry_after_s=5)
        self._streams += 1
        self._meter.streams_changed(open_now=self._streams)
        try:
            from .live_stream import LiveWindows  # noqa: PLC0415 - imports MLX, see blas

            yield ParakeetMlxStream(LiveWindows(engine, context), thread)
        finally:
            self._streams -= 1
            self._meter.streams_changed(open_now=self._streams)

    def _load(self) -> "Engine":
        checkpoint = locate(self._model_id, offline=self._offline)
        chosen = blas.preload()
        if chosen is not None and chosen.slow:
            _log.warning("slow_blas", blas=chosen.name, hint="install the wheel scipy-openblas32, or libopenblas")
        from .engine import Engine  # noqa: PLC0415 - importing MLX binds its BLAS and, on Metal, its thread

        engine = Engine(checkpoint, precision=self._precision, blas=chosen)
        rate_hz = engine.description.sample_rate_hz
        if rate_hz != self._sample_rate_hz:
            raise ModelLoadError(f"TARGET_SR: {self._model_id} takes {rate_hz} Hz, not {self._sample_rate_hz}.")
        engine.warm_up()
        return engine

    def _ready(self) -> tuple["Engine", InferenceThread]:
        if self._failure is not None:
            raise self._failure
        if self._engine is None or self._thread is None:
            raise ModelNotReadyError("The model is being loaded.", retry_after_s=5)
        return self._engine, self._thread


class ParakeetMlxStream:
    """The port SpeechStream: one stream's windows, decoded in the inference thread before any file's."""

    def __init__(self, windows: "LiveWindows", thread: InferenceThread) -> None:
        """Begin with silence."""
        self._windows = windows
        self._thread = thread

    async def push(self, samples: Samples) -> Hypothesis | None:
        """See the port."""
        if not self._windows.push(samples):
            return None
        return await _translated(self._thread, self._windows.step, Urgency.LIVE, audio_s=self._length_s)

    async def flush(self) -> Hypothesis:
        """See the port."""
        return await _translated(self._thread, self._windows.flush, Urgency.LIVE, audio_s=self._length_s)

    def _length_s(self) -> float:
        return self._windows.kept_s


async def _translated(
    thread: InferenceThread, work: Callable[[], T], urgency: Urgency, *, audio_s: Callable[[], float]
) -> T:
    try:
        return await thread.run(work, urgency, audio_s=audio_s)
    except (RuntimeError, ValueError, MemoryError) as error:
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
