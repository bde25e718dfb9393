"""Which jobs run next, and together: one queue, one thread, batches of equal length."""

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Callable, Generator, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

import structlog

from ...application.ports.metrics import ModelMetrics
from ...domain.errors import OverloadedError, ShuttingDownError

_log = structlog.get_logger()

Job = TypeVar("Job")
Job_contra = TypeVar("Job_contra", contravariant=True)
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Urgency(IntEnum):
    """Who goes first: the smaller number."""

    LIVE = 0
    SHORT = 1
    LONG = 2


_HEAD_START_S = {Urgency.LIVE: 20.0, Urgency.SHORT: 10.0, Urgency.LONG: 0.0}
"""How much earlier a job counts as having arrived; it counts as later by its own length, so that a short job does not
wait for many long ones. A job that waits long enough goes first: none starves."""


class BatchRunner(Protocol[Job_contra, Result_co]):
    """Runs batches; `run` is called from the scheduler's thread only, the others from any."""

    def bucket(self, job: Job_contra, /) -> Hashable:
        """Jobs of the same bucket may run as one batch."""
        ...

    def room(self, job: Job_contra, waiting: int, /) -> int:
        """How many jobs like this one are worth running as one batch, when `waiting` of them could."""
        ...

    def seconds(self, job: Job_contra, /) -> float:
        """How much audio the job holds."""
        ...

    def run(self, jobs: Sequence[Job_contra], /) -> "Generator[None, None, Sequence[Result_co | Exception]]":
        """Run jobs of one bucket as a batch; between two steps of the generator more urgent batches may run.

        Returns:
            For each job its result, or why it has none.

        Raises:
            RuntimeError: The device failed.
        """
        ...


@dataclass(eq=False, slots=True)
class _QueuedJob(Generic[Job, Result]):
    job: Job
    urgency: Urgency
    seconds: float
    number: int
    arrived: float
    future: "asyncio.Future[Result]"  # of the event loop, which alone may resolve it

    @property
    def due(self) -> tuple[float, int]:
        return self.arrived - _HEAD_START_S[self.urgency] + self.seconds, self.number


class Scheduler(Generic[Job, Result]):
    """Runs jobs in a thread of its own, which also makes the runner and is the only one to use its device.

    The job that is due first runs next, together with others of its bucket that wait; nothing waits for a batch to
    fill. Between two steps of a batch one batch of more urgent jobs runs, so live text waits for a step, not for a
    recording, and every batch that was begun is finished. The jobs of recordings are bounded in number, those of live
    streams by the number of streams.
    """

    def __init__(self, *, most_waiting: int, most_per_batch: int, metrics: ModelMetrics) -> None:
        """Begin with an empty queue; `start` begins to run jobs.

        Args:
            most_waiting: Jobs of recordings that may wait.
            most_per_batch: Jobs run at once, at most.
            metrics: Counts the queue and the batches.
        """
        self._most_waiting = most_waiting
        self._most_per_batch = most_per_batch
        self._metrics = metrics
        self._numbers = itertools.count()
        self._queue: list[_QueuedJob[Job, Result]] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._mean_s = 0.5  # per job of a recording, a first guess
        self._runner: BatchRunner[Job, Result] | None = None
        self._begun = False
        self._ended = threading.Event()

    async def start(self, make: Callable[[], BatchRunner[Job, Result]]) -> None:
        """Make the runner, in the thread, and begin to run jobs.

        Raises:
            Exception: Whatever `make` raises; then no job ever runs.
        """
        made: Future[None] = Future()

        def work() -> None:
            try:
                self._runner = make()
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller of `start`, whatever it is
                made.set_exception(error)
            else:
                made.set_result(None)
                while (batch := self._next_batch()) is not None:
                    self._run(self._runner, batch)
                self._runner = None
            self._ended.set()
            # It sleeps until the process ends, and does not end before. When a thread ends, MLX frees what it keeps for
            # it, Python objects among that; if Python itself has begun to end by then, that aborts the process.
            threading.Event().wait()

        self._begun = True
        threading.Thread(target=work, name="inference", daemon=True).start()
        # Shielded: cancelling cannot stop the thread, and its result must find somebody.
        await asyncio.shield(asyncio.wrap_future(made))

    async def submit(self, job: Job, urgency: Urgency) -> Result:
        """Run `job` and give its result; a job that is cancelled before its turn leaves the queue.

        Raises:
            OverloadedError: Too many jobs of recordings wait.
            ShuttingDownError: The scheduler was stopped.
            Exception: What the runner gave instead of a result.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._stopping or self._runner is None:
                raise ShuttingDownError("The service is shutting down.")
            queued = _QueuedJob(job, urgency, self._runner.seconds(job), next(self._numbers), time.monotonic(), future)
            waiting = sum(other.urgency is not Urgency.LIVE for other in self._queue)
            if urgency is not Urgency.LIVE and waiting >= self._most_waiting:
                self._metrics.window_refused()
                retry_after_s = float(math.ceil(max(waiting * self._mean_s / 2, 1)))
                message = f"The model's queue is full ({waiting} windows are waiting)."
                raise OverloadedError(message, retry_after_s=retry_after_s)
            self._queue.append(queued)
            self._metrics.queue_changed(depth=len(self._queue))
        # Once the event loop has handed over all that it has now: what arrives together runs together.
        asyncio.get_running_loop().call_soon(self._wake)
        try:
            return await future
        finally:
            if future.cancelled():
                with self._changed:
                    if queued in self._queue:
                        self._queue.remove(queued)
                        self._metrics.queue_changed(depth=len(self._queue))

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def stop(self, *, patience_s: float) -> None:
        """Free the runner after the current batch; what waits is cancelled.

        Work that takes longer than `patience_s`, such as fetching a model, is left behind: it ends with the process.
        """
        with self._changed:
            self._stopping = True
            for queued in self._queue:
                queued.future.get_loop().call_soon_threadsafe(queued.future.cancel)
            self._queue.clear()
            self._metrics.queue_changed(depth=0)
            self._changed.notify()
        if self._begun:
            self._ended.wait(patience_s)

    def _next_batch(self) -> list[_QueuedJob[Job, Result]] | None:
        """The next batch, as soon as there is one; ``None`` at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping)
            return None if self._stopping else self._take_batch(self._queue)

    def _more_urgent_batch(self, urgency: Urgency) -> list[_QueuedJob[Job, Result]]:
        """The next batch of jobs that are more urgent, if there are any."""
        with self._changed:
            return self._take_batch([queued for queued in self._queue if queued.urgency < urgency])

    def _take_batch(self, candidates: Sequence[_QueuedJob[Job, Result]]) -> list[_QueuedJob[Job, Result]]:
        """Take the candidate that is due first out of the queue, and those of its bucket that fit beside it.

        Jobs that were cancelled meanwhile are dropped, so the batch may be empty.
        """
        if not candidates or self._runner is None:
            return []
        first = min(candidates, key=lambda queued: queued.due)
        bucket = self._runner.bucket(first.job)
        alike = [
            queued
            for queued in candidates
            if queued.urgency is first.urgency and self._runner.bucket(queued.job) == bucket
        ]
        alike.sort(key=lambda queued: queued.due)
        waiting = min(len(alike), self._most_per_batch)
        batch = alike[: min(waiting, self._runner.room(first.job, waiting))]
        for queued in batch:
            self._queue.remove(queued)
        self._metrics.queue_changed(depth=len(self._queue))
        return [queued for queued in batch if not queued.future.cancelled()]

    def _run(self, runner: BatchRunner[Job, Result], batch: Sequence[_QueuedJob[Job, Result]]) -> float:
        """Run a batch, and more urgent ones between its steps; gives how long all of it took, in seconds."""
        if not batch:
            return 0.0
        began, between = time.monotonic(), 0.0
        urgency = batch[0].urgency
        for queued in batch:
            self._metrics.window_began(live=urgency is Urgency.LIVE, waited_s=began - queued.arrived)
        steps = runner.run([queued.job for queued in batch])
        while True:
            try:
                next(steps)
            except StopIteration as end:
                _deliver(batch, end.value)
                break
            except BaseException as error:  # noqa: BLE001 - it belongs to those who wait for it, whatever it is
                if len(batch) > 1:
                    # One job's fault must not be the others'.
                    return time.monotonic() - began + sum(self._run(runner, [queued]) for queued in batch)
                _deliver(batch, [error])
                break
            between += self._run(runner, self._more_urgent_batch(urgency))
        total = time.monotonic() - began
        self._report(runner, batch, took_s=total - between)
        return total

    def _report(
        self, runner: BatchRunner[Job, Result], batch: Sequence[_QueuedJob[Job, Result]], *, took_s: float
    ) -> None:
        urgency = batch[0].urgency
        if urgency is not Urgency.LIVE:
            self._mean_s += 0.1 * (took_s / len(batch) - self._mean_s)
        audio_s = sum(runner.seconds(queued.job) for queued in batch)
        self._metrics.batch_read(size=len(batch), audio_s=audio_s, took_s=took_s)
        _log.debug(
            "batch_read",
            urgency=urgency.name.lower(),
            size=len(batch),
            audio_s=round(audio_s, 2),
            took_s=round(took_s, 3),
            waiting=len(self._queue),
        )


def _deliver(batch: Sequence[_QueuedJob[Job, Result]], results: Sequence[Result | BaseException]) -> None:
    """Have the event loop resolve the futures of a batch, all of them at once.

    Were it told of each job, this thread would lose its turn as often, for as long as the loop is busy.
    """
    # Once the loop is closed nobody waits any more.
    with suppress(RuntimeError):
        batch[0].future.get_loop().call_soon_threadsafe(_resolve, batch, results)


def _resolve(batch: Sequence[_QueuedJob[Job, Result]], results: Sequence[Result | BaseException]) -> None:
    for queued, result in zip(batch, results, strict=True):
        if queued.future.done():
            # The caller has left.
            continue
        if isinstance(result, BaseException):
            queued.future.set_exception(result)
        else:
            queued.future.set_result(result)
