"""What a worker has of one front: windows that run, and outcomes that wait for a call to be answered with."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import structlog

from ...domain.errors import InferenceError, ServiceError
from ..inference.job_queue import Urgency
from ..inference.jobs import DecodeResult, EncoderJob
from .workers import Outcome, Window

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Runner(Protocol):
    """Runs one job, in company of its choice."""

    async def run(self, job: EncoderJob, urgency: Urgency) -> DecodeResult:
        """See `EngineModel.run`."""
        ...


class Desk:
    """Answers the calls of one front: with what a batch gives as soon as it ends, and not with what a call has brought.

    So a call may bring many windows, and none of them waits for the others' outcomes.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._running: set[asyncio.Task[DecodeResult]] = set()
        self._done: list[tuple[int, Outcome]] = []
        self._news = asyncio.Event()  # of the call that waits

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left that a call could be answered with."""
        return not self._running and not self._done

    async def run(self, runner: Runner, windows: Sequence[Window]) -> Sequence[tuple[int, Outcome]]:
        """See `Worker`."""
        # The one that has waited until now need not: this one waits.
        self._news.set()
        news = self._news = asyncio.Event()
        for window in windows:
            task = asyncio.create_task(runner.run(window.job, window.urgency))
            self._running.add(task)
            task.add_done_callback(partial(self._ended, window))
        if self._running and not self._done:
            await news.wait()
            if self._news is not news:
                # What there is now is for the call that waits now: this one's line may have ended.
                return []
        done, self._done = self._done, []
        return done

    def _ended(self, window: Window, task: "asyncio.Task[DecodeResult]") -> None:
        self._running.discard(task)
        outcome = _outcome(task)
        if isinstance(outcome, DecodeResult) and not window.urgency.is_live:
            # Nobody goes on from there, and it is larger than the text.
            outcome = replace(outcome, state=None)
        self._done.append((window.number, outcome))
        # All outcomes of a batch come in one turn of the loop, before who waits goes on.
        self._news.set()


def _outcome(task: "asyncio.Task[DecodeResult]") -> Outcome:
    if task.cancelled():
        return InferenceError("The worker stopped before it read this audio.")
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, ServiceError):
        return error
    _log.error("unexpected_error_in_worker", exc_info=error)
    return InferenceError("The model failed on this audio.")
