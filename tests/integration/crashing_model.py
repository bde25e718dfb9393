"""A model for the child process that crashes when it is told to; files in a directory tell it, and tell of it."""

import asyncio
import json
import os
import resource
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import structlog

from parakeet_service.application.ports.metrics import ModelMetrics
from parakeet_service.application.ports.speech_model import (
    GREEDY,
    Decoding,
    ModelDescription,
    RecognitionStream,
    StreamContext,
)
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import InvalidRequestError, ModelLoadError, ModelNotReadyError, OverloadedError
from parakeet_service.domain.hypothesis import Hypothesis
from parakeet_service.domain.transcript import Token
from tests.scripted_model import ScriptedModel

DEADLY, OVERLOADING, REFUSED, DEFECTIVE, TALKATIVE = (level / 10 for level in range(1, 6))
"""What a window does is in its samples."""


def samples_that_are(what: float, *, seconds: float = 2.0) -> Samples:
    return np.full(round(16000 * seconds), what, np.float32)


class Orders:
    """The test's side: what the model is to do, and what it has done."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def give(self, order: str) -> None:
        (self.directory / order).touch()

    def take_back(self, order: str) -> None:
        (self.directory / order).unlink()

    def given(self, order: str) -> bool:
        return (self.directory / order).exists()

    def note(self, what: str, **facts: object) -> None:
        with (self.directory / "notes").open("a") as notes:
            notes.write(json.dumps({"what": what, **facts}) + "\n")

    def notes(self, what: str) -> list[dict[str, object]]:
        path = self.directory / "notes"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line["what"] == what]

    async def while_given(self, order: str) -> None:
        while self.given(order):
            await asyncio.sleep(0.01)

    async def noted(self, what: str, times: int) -> None:
        """Wait for it; the test's own time limit is the limit."""
        while len(self.notes(what)) < times:
            await asyncio.sleep(0.01)


def scripted_model(*, metrics: ModelMetrics, max_streams: int = 4) -> ScriptedModel:  # noqa: ARG001 - it counts nothing
    """A scripted model, for a child to make."""
    return ScriptedModel(max_streams=max_streams)


class ModelWithWorkers(ScriptedModel):
    """Has as many workers as there are ``worker_...`` given; not ready without one."""

    def __init__(self, directory: Path, *, metrics: ModelMetrics) -> None:  # noqa: ARG002 - it counts nothing
        super().__init__()
        self._directory = directory

    def describe(self) -> ModelDescription:
        up = len(list(self._directory.glob("worker_*")))
        if not up:
            raise ModelNotReadyError("No worker is up.", retry_after_s=7)
        return replace(super().describe(), workers_up=up, workers_wanted=2)


class CrashingModel(ScriptedModel):
    """Obeys ``hold_start``, ``refuse_start``, ``die_at_start``, ``hold`` and ``finish_at_the_end``; notes ``start``, ``window``, ``cancelled``."""

    def __init__(self, directory: Path, *, metrics: ModelMetrics) -> None:
        super().__init__(max_streams=1)
        self._metrics = metrics
        self._orders = Orders(directory)
        self._at_work = 0

    async def start(self) -> None:
        # A core file for each crash would fill the disk.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._orders.note("start", pid=os.getpid())
        await self._orders.while_given("hold_start")
        if self._orders.given("refuse_start"):
            raise ModelLoadError("There is no such model any more.")
        if self._orders.given("die_at_start"):
            os.abort()
        await super().start()

    async def aclose(self) -> None:
        if self._orders.given("finish_at_the_end"):
            self._orders.take_back("hold")
            while self._at_work:
                await asyncio.sleep(0.01)
        await super().aclose()

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        self._orders.note("window", after_s=after_s, decoding=asdict(decoding), samples=len(samples))
        self._metrics.queue_changed(depth=3)
        self._metrics.window_began(live=False, waited_s=0.5)
        if _order_in(samples) == DEADLY:
            # Long enough for what is beside it to begin.
            await asyncio.sleep(0.2)
        _obey(samples)
        self._at_work += 1
        try:
            await self._orders.while_given("hold")
            # As an engine does, in a thread.
            await asyncio.to_thread(self._metrics.batch_read, size=1, audio_s=len(samples) / 16000, took_s=0.25)
            return await super().transcribe(samples, after_s=after_s, decoding=decoding)
        except asyncio.CancelledError:
            self._orders.note("cancelled")
            raise
        finally:
            self._at_work -= 1

    @asynccontextmanager
    async def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AsyncGenerator[RecognitionStream]:
        async with super().open_stream(context, decoding=decoding) as stream:
            try:
                yield _CrashingStream(stream)
            finally:
                # Leaving takes a moment.
                await asyncio.sleep(0.05)


class _CrashingStream:
    def __init__(self, stream: RecognitionStream) -> None:
        self._stream = stream

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        _obey(samples)
        return await self._stream.decode(samples, start_s=start_s)

    async def flush(self) -> Hypothesis:
        return await self._stream.flush()


def _order_in(samples: Samples) -> float:
    return round(float(samples[0]), 3)


def _obey(samples: Samples) -> None:
    what = _order_in(samples)
    if what == DEADLY:
        os.abort()
    if what == OVERLOADING:
        raise OverloadedError("Too much waits.", retry_after_s=7.5)
    if what == REFUSED:
        raise InvalidRequestError("That cannot be.", param="beam_size")
    if what == DEFECTIVE:
        raise ZeroDivisionError("a defect")
    if what == TALKATIVE:
        structlog.get_logger("talker").warning("heard", length=len(samples))
        sys.stderr.write("a library says something\n")
        sys.stderr.flush()
