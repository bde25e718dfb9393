"""The SpeechModel port on any engine: one queue, one thread, and live streams."""

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
import structlog

from ...application.ports.metrics import ModelMetrics, NullMetrics
from ...application.ports.speech_model import GREEDY, Decoding, ModelDescription, RecognitionStream, StreamContext
from ...domain.audio import Samples
from ...domain.errors import InferenceError, ModelLoadError, ModelNotReadyError
from ...domain.transcript import Token
from .buffered_stream import BufferedStream
from .cores import one_thread_for_numpy
from .engine import Engine, EngineFacts
from .job_queue import Urgency
from .jobs import DecodeResult, EncoderJob
from .progress import Progress
from .scheduler import Scheduler
from .windows import Windows, submit

_log = structlog.get_logger()

_EngineScheduler: TypeAlias = Scheduler[EncoderJob, DecodeResult]
_LEAST_QUEUE = 64
_DOING = {"downloading": "being downloaded", "building": "being built; what is built is kept for the next start"}
_PROGRESS_S = 5.0
_LONGEST_PREPARING_S = 180.0


class EngineModel:
    """One engine behind one queue and one thread; loaded by `start`, freed by `aclose`."""

    def __init__(
        self,
        load: Callable[[], Engine],
        *,
        sample_rate_hz: int,
        batch_size: int | None,
        most_waiting: int | None,
        most_streams: int,
        context: StreamContext | None = None,
        longest_window_s: float = 30.0,
        metrics: ModelMetrics | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Remember what to load.

        Args:
            load: Loads the engine; called once, in the thread that then owns it. Raises `ModelLoadError`.
            sample_rate_hz: The rate that the model must expect.
            batch_size: Jobs run at once, at most; by default as many as suit the device.
            most_waiting: Jobs of recordings that may wait; by default 16 for each that runs at once, at least 64.
            most_streams: Live streams at once.
            context: Of most live streams: a GPU compiles for it at the start.
            longest_window_s: Longest window of a recording, likewise.
            metrics: Counts jobs and streams.
            progress: How far `load` is, where it downloads or builds something.
        """
        self._progress = progress or Progress()
        self._load = load
        self._sample_rate_hz = sample_rate_hz
        self._batch_size = batch_size
        self._most_waiting = most_waiting
        self._context = context
        self._longest_window_s = longest_window_s
        self._metrics = metrics or NullMetrics()
        self._windows = Windows(self._ready, most_streams=most_streams, metrics=self._metrics)
        self._scheduler: _EngineScheduler | None = None
        self._engine: Engine | None = None
        self._failure: ModelLoadError | None = None

    async def start(self) -> None:
        """Fetch, load and warm up the model.

        Raises:
            ModelLoadError: It cannot be found or loaded; `describe` raises the same from then on.
        """
        one_thread_for_numpy()
        # The limits that suit the device are known once the model is loaded; until then nothing is taken.
        self._scheduler = Scheduler(most_waiting=1, most_per_batch=1, metrics=self._metrics)
        try:
            await self._scheduler.start(self._load_and_warm_up)
        except ModelLoadError as error:
            self._failure = error
            raise
        description = self.describe()
        self._windows.allow_drafts(description.batch_size)
        self._metrics.model_loaded(description)
        _log.info("model_loaded", **_facts(description))
        if description.note:
            _log.warning("model_note", note=description.note)

    async def aclose(self) -> None:
        """Finish the current batch, cancel what waits, and free the model."""
        if self._scheduler is not None:
            # A model that is still being fetched is not waited for.
            patience_s = 0.0 if self._engine is None else 10.0
            await asyncio.to_thread(partial(self._scheduler.stop, patience_s=patience_s))
        self._scheduler = self._engine = None

    def describe(self) -> ModelDescription:
        """See the port."""
        description = self._ready()[0].description
        return description if self._batch_size is None else replace(description, batch_size=self._batch_size)

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        """See the port."""
        return await self._windows.transcribe(samples, after_s=after_s, decoding=decoding)

    def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AbstractAsyncContextManager[RecognitionStream]:
        """See the port."""
        return self._windows.open_stream(context, decoding=decoding)

    async def run(self, job: EncoderJob, urgency: Urgency) -> DecodeResult:
        """Run one job, for who makes the jobs elsewhere.

        Raises:
            InferenceError: The engine failed on it.
            OverloadedError: Too many jobs of recordings wait.
        """
        return await submit(self._ready()[1], job, urgency)

    def facts(self) -> EngineFacts:
        """What must be known of the engine to make its jobs elsewhere.

        Raises:
            ModelNotReadyError: It is still being loaded.
        """
        engine = self._ready()[0]
        return EngineFacts(self.describe(), engine.frame_s, engine.can_stream)

    def _load_and_warm_up(self) -> Engine:
        engine = self._load()
        description = engine.description
        if description.sample_rate_hz != self._sample_rate_hz:
            message = f"{description.id} expects {description.sample_rate_hz} Hz, not {self._sample_rate_hz} Hz."
            raise ModelLoadError(message)
        noise = np.random.default_rng(0).normal(0, 0.1, description.sample_rate_hz).astype(np.float32)
        # What is run first compiles kernels, which can take seconds.
        if any(isinstance(result, InferenceError) for result in _result_of(engine.run([EncoderJob(noise)]))):
            message = f"{description.id} gives numbers that are not finite for a test signal: its weights are bad."
            raise ModelLoadError(message)
        batch_size = self._batch_size or description.batch_size
        self._prepare(engine, batch_size)
        if self._scheduler is not None:
            self._scheduler.resize(
                most_per_batch=batch_size, most_waiting=self._most_waiting or max(16 * batch_size, _LEAST_QUEUE)
            )
        self._engine = engine
        return engine

    def _prepare(self, engine: Engine, batch_size: int) -> None:
        """Have the device compile for every shape of a batch that there will be."""
        longest_s = min(self._longest_window_s, engine.description.max_window_s)
        batches = engine.prepare(self._live_job(engine), longest_s=longest_s, most=batch_size)
        began = told = time.monotonic()
        for number, batch in enumerate(batches, start=1):
            _result_of(engine.run(batch))
            now = time.monotonic()
            if now - told >= _PROGRESS_S or number == len(batches):
                told = now
                _log.info("preparing_shapes", done=f"{number}/{len(batches)}", took_s=round(now - began, 1))
            if now - began > _LONGEST_PREPARING_S and number < len(batches):
                _log.warning("shapes_not_prepared", left=len(batches) - number)
                return

    def _live_job(self, engine: Engine) -> EncoderJob | None:
        if self._context is None or not engine.can_stream:
            return None
        job = BufferedStream(engine, self._context).complete_job
        # A longer one is for the use-case to refuse.
        return job if engine.seconds(job) <= engine.description.max_window_s else None

    def _ready(self) -> tuple[Engine, _EngineScheduler]:
        if self._failure is not None:
            raise self._failure
        if self._engine is None or self._scheduler is None:
            stage = self._progress.stage
            if stage is None:
                raise ModelNotReadyError("The model is still loading.", retry_after_s=5)
            message = f"The model is still {_DOING[stage.doing]}."
            raise ModelNotReadyError(
                message,
                retry_after_s=5,
                state=stage.doing,
                done_bytes=stage.done_bytes,
                total_bytes=stage.total_bytes,
            )
        return self._engine, self._scheduler


def _result_of(
    steps: Generator[None, None, list[DecodeResult | InferenceError]],
) -> list[DecodeResult | InferenceError]:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            results: list[DecodeResult | InferenceError] = end.value
            return results


def _facts(description: ModelDescription) -> dict[str, object]:
    return {
        "model": description.id,
        "architecture": description.architecture,
        "precision": description.precision,
        "compute": description.compute,
        "device": description.device,
        "blas": description.blas,
    }
