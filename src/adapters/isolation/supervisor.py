"""Keeps one process with a model running: starts it, notices that it died or hangs, and starts it again."""

import asyncio
import logging
import pickle
import sys
import time
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import structlog

from ...application.ports.metrics import ModelMetrics
from ...application.ports.speech_model import ModelDescription, SpeechModel
from ...domain.errors import ModelLoadError, ModelNotReadyError
from .calls import ProcessEndedError
from .process import ModelProcess
from .wire import Request

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_LONGEST_PAUSE_S = 30.0
_LOST_PINGS = 3
"""So many in a row without an answer are no accident: the process hangs."""


class MakeModel(Protocol):
    """Makes the model, in the child; must be picklable, such as a `functools.partial` of a class."""

    def __call__(self, *, metrics: ModelMetrics) -> SpeechModel:
        """A new model, not started, that counts with `metrics`."""
        ...


@dataclass(frozen=True, slots=True)
class Supervision:
    """How a process is kept running.

    Attributes:
        most_restarts: How often in a row, without one answer in between, it is started again before it is given up.
        first_pause_s: Before the second restart in a row, and twice that before the next, up to half a minute.
        patience_s: How long the current batch may take at the end.
        ping_every_s: How often it is asked for a sign of life, and how long it may take to answer.
    """

    most_restarts: int = 10
    first_pause_s: float = 0.5
    patience_s: float = 15.0
    ping_every_s: float = 20.0


class State(Enum):
    """Where the process stands."""

    LOADING = "for the first time, or not even started"
    READY = "serves"
    RESTARTING = "died, and is being started again"
    FAILED = "given up"
    CLOSED = "by us"


class Supervisor:
    """One process at a time."""

    def __init__(self, make: MakeModel, metrics: ModelMetrics, supervision: Supervision) -> None:
        """Remember what to make; `start` makes it, in the child."""
        self._make = make
        self._metrics = metrics
        self._supervision = supervision
        self._description: ModelDescription | None = None
        self._failure: ModelLoadError | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._load_s = 0.0
        self.state = State.LOADING
        self.changed = asyncio.Event()  # set, and replaced, when anything changes that somebody may wait for
        self.process: ModelProcess | None = None
        self.answers = 0  # of the current process, counted by the caller

    async def start(self) -> None:
        """Start the process, and have it load the model.

        Raises:
            ModelLoadError: It cannot be found or loaded, or the process died of it; `describe` raises the same from
                then on.
        """
        try:
            process = await self._start_process()
        except ModelLoadError as error:
            self._give_up(error)
            raise
        except ProcessEndedError as error:
            raise self._give_up(error) from error
        self._task = asyncio.create_task(self._supervise(process))

    async def aclose(self) -> None:
        """End the process, and wait for that; whoever is cancelled here does not leave it behind."""
        self._enter(State.CLOSED)
        self._closing = self._closing or asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        process, self.process = self.process, None
        if process is not None:
            await process.end(patience_s=self._supervision.patience_s)

    def serving(self) -> tuple[ModelProcess, ModelDescription]:
        """The process that serves, and what it holds.

        Raises:
            ModelNotReadyError: There is none now.
            ModelLoadError: There will be none.
        """
        if self._failure is not None:
            raise self._failure
        if self.state is not State.READY or self.process is None or self._description is None:
            raise self.not_ready()
        return self.process, self._description

    def not_ready(self) -> ModelNotReadyError:
        """Why there is no process that serves, and when there may be one."""
        if self.state is State.CLOSED:
            return ModelNotReadyError("The model has been unloaded.")
        if self.state is State.LOADING:
            return ModelNotReadyError("The model is being loaded.", retry_after_s=5)
        message = "The model's process died and is being started again."
        return ModelNotReadyError(message, retry_after_s=max(self._load_s, 1.0))

    def notify(self) -> None:
        """Wake all that wait for a change."""
        self.changed.set()
        self.changed = asyncio.Event()

    def _enter(self, state: State) -> None:
        # Nothing follows the end.
        if self.state is not State.CLOSED:
            self.state = state
            self.notify()

    def _give_up(self, error: Exception) -> ModelLoadError:
        if not isinstance(error, ModelLoadError):
            error = ModelLoadError(f"The model's process cannot be started: {error}.")
        self._failure = error
        self._enter(State.FAILED)
        return error

    async def _start_process(self) -> ModelProcess:
        """Start a process and have it load the model; leaves nothing behind if that fails.

        Raises:
            ModelLoadError: The model says that it cannot be loaded.
            ProcessEndedError: The process died, or could not even be started; the message says how.
        """
        began = time.monotonic()
        recipe = pickle.dumps((sys.path, logging.getLogger(__name__).getEffectiveLevel(), pickle.dumps(self._make)))
        try:
            process = await ModelProcess.start(metrics=self._metrics, on_end=self._on_end)
        except OSError as error:
            raise ProcessEndedError(str(error)) from error
        try:
            description = (await process.calls.call(Request("start", recipe=recipe))).description
        except ProcessEndedError as error:
            how, last_words = await process.end(patience_s=self._supervision.patience_s)
            _log.error("model_process_stillborn", how=how, last_words=last_words)
            raise ProcessEndedError(f"it died while it was loading: {how}") from error
        except BaseException:
            await process.end(patience_s=0.0)
            raise
        self._load_s = time.monotonic() - began
        self.process, self._description, self.answers = process, description, 0
        # It may have died since it answered: then the supervisor finds out.
        if description is not None and not process.calls.ended:
            self._metrics.model_loaded(description)
            self._enter(State.READY)
        _log.info("model_process_ready", pid=process.pid, load_s=round(self._load_s, 2))
        return process

    def _on_end(self) -> None:
        """From this moment, before any caller learns of the end, the model is not ready."""
        self._metrics.queue_changed(depth=0)
        self._metrics.streams_changed(open_now=0)
        if self.state is State.READY:
            self._enter(State.RESTARTING)

    async def _supervise(self, process: ModelProcess) -> None:
        deaths = 0  # in a row
        try:
            while True:
                await self._watch(process)
                how, last_words = await process.end(patience_s=self._supervision.patience_s)
                self.process = None
                deaths = 1 if self.answers else deaths + 1
                _log.error("model_process_died", pid=process.pid, how=how, in_a_row=deaths, last_words=last_words)
                self._enter(State.RESTARTING)
                process, deaths = await self._restart(deaths)
        except Exception as error:  # noqa: BLE001 - the last handler of a task that nobody awaits
            # A defect of ours is logged with its trace.
            _log.critical(
                "model_given_up",
                reason=self._give_up(error).message,
                exc_info=not isinstance(error, ModelLoadError),
            )

    async def _watch(self, process: ModelProcess) -> None:
        """Return once the process has ended, be it that it hung and was killed."""
        lost = 0
        while not await process.calls.wait_ended(within_s=self._supervision.ping_every_s):
            try:
                async with asyncio.timeout(self._supervision.ping_every_s):
                    await process.calls.call(Request("ping"))
                lost = 0
            except ProcessEndedError:
                return
            except TimeoutError:
                lost += 1
            if lost == _LOST_PINGS:
                _log.error("model_process_hangs", pid=process.pid)
                process.kill()

    async def _restart(self, deaths: int) -> tuple[ModelProcess, int]:
        """Start the process until it serves; gives it, and the number of deaths in a row.

        Raises:
            ModelLoadError: The model cannot be loaded any more, or its process died too often.
        """
        first_s = self._supervision.first_pause_s
        while deaths <= self._supervision.most_restarts:
            pause_s = 0.0 if deaths == 1 else min(first_s * 2.0 ** (deaths - 2), _LONGEST_PAUSE_S)
            _log.warning("model_process_restarts", pause_s=pause_s, in_a_row=deaths)
            await asyncio.sleep(pause_s)
            try:
                return await self._start_process(), deaths
            except ProcessEndedError:
                deaths += 1
        raise ModelLoadError(f"The model's process died {deaths} times in a row and was given up.")
