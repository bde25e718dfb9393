"""Runs the jobs of a queue on one thread, which owns the model."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic

import structlog

from ...application.ports.metrics import ModelMetrics
from ...domain.errors import ShuttingDownError
from .job_queue import BatchRunner, Job, JobQueue, QueuedJob, Result, Urgency, weight_of

_log = structlog.get_logger()


class Scheduler(Generic[Job, Result]):
    """Runs jobs in a thread of its own, which also makes the runner and is the only one to use its device.

    The job that is due first runs next, together with those that wait and suit it; nothing waits for a batch to
    fill. Between two steps of a batch one batch of more urgent jobs runs, so live text waits for a step, not for a
    recording, and every batch that was begun is finished. The jobs of recordings are bounded in number, those of live
    streams by the number of streams.
    """

    def __init__(
        self,
        *,
        most_waiting: int,
        most_per_batch: int,
        metrics: ModelMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with an empty queue; `start` begins to run jobs.

        Args:
            most_waiting: Jobs of recordings that may wait.
            most_per_batch: Jobs run at once, at most.
            metrics: Counts the queue and the batches.
            clock: Seconds since any moment.
        """
        self._queue: JobQueue[Job, Result] = JobQueue(
            most_waiting=most_waiting, most_per_batch=most_per_batch, metrics=metrics
        )
        self._metrics = metrics
        self._clock = clock
        self._numbers = itertools.count()
        self._mean_s = 0.5  # per job of a recording, a first guess
        self._runner: BatchRunner[Job, Result] | None = None
        self._begun = False
        self._ended = threading.Event()

    def resize(self, *, most_waiting: int, most_per_batch: int) -> None:
        """Change the limits, such as when the runner is known; what waits already stays."""
        self._queue.resize(most_waiting=most_waiting, most_per_batch=most_per_batch)

    async def start(self, make: Callable[[], BatchRunner[Job, Result]]) -> None:
        """Make the runner, in the thread, and begin to run jobs.

        Raises:
            Exception: Whatever `make` raises; then no job ever runs.
        """
        made: Future[None] = Future()

        def work() -> None:
            try:
                self._runner = make()
            except BaseException as error:  # noqa: BLE001 - any exception belongs to the caller of `start`
                made.set_exception(error)
            else:
                made.set_result(None)
                while (batch := self._queue.next_batch(self._runner)) is not None:
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
        runner = self._runner
        if runner is None:
            raise ShuttingDownError("The service is shutting down.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        queued = QueuedJob(
            job, urgency, runner.seconds(job), next(self._numbers), self._clock(), future, weight_of(self._mean_s)
        )
        self._queue.put(queued, mean_s=self._mean_s)
        # Once the event loop has handed over all that it has now: what arrives together runs together.
        loop.call_soon(self._queue.wake)
        try:
            return await future
        finally:
            if future.cancelled():
                self._queue.discard(queued)

    def stop(self, *, patience_s: float) -> None:
        """Free the runner after the current batch; what waits is cancelled.

        Work that takes longer than `patience_s`, such as fetching a model, is left behind: it ends with the process.
        """
        self._queue.close()
        if self._begun:
            self._ended.wait(patience_s)

    def _run(self, runner: BatchRunner[Job, Result], batch: Sequence[QueuedJob[Job, Result]]) -> float:
        """Run a batch, and more urgent ones between its steps; gives how long all of it took, in seconds."""
        if not batch:
            return 0.0
        began, between = self._clock(), 0.0
        urgency = batch[0].urgency
        for queued in batch:
            self._metrics.window_began(live=urgency.is_live, waited_s=began - queued.arrived)
        steps = runner.run([queued.job for queued in batch])
        while True:
            try:
                next(steps)
            except StopIteration as end:
                _deliver(batch, end.value)
                break
            except BaseException as error:  # noqa: BLE001 - any exception belongs to the callers that wait
                if len(batch) > 1:
                    # One job's fault must not be the others'.
                    return self._clock() - began + sum(self._run(runner, [queued]) for queued in batch)
                _deliver(batch, [error])
                break
            between += self._run(runner, self._queue.more_urgent_batch(runner, urgency))
        total = self._clock() - began
        self._report(runner, batch, took_s=total - between)
        return total

    def _report(
        self, runner: BatchRunner[Job, Result], batch: Sequence[QueuedJob[Job, Result]], *, took_s: float
    ) -> None:
        urgency = batch[0].urgency
        if not urgency.is_live:
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


def _deliver(batch: Sequence[QueuedJob[Job, Result]], results: Sequence[Result | BaseException]) -> None:
    """Have the event loop resolve the futures of a batch, all of them at once.

    Were it told of each job, this thread would lose its turn as often, for as long as the loop is busy.
    """
    # Once the loop is closed nobody waits any more.
    with suppress(RuntimeError):
        batch[0].future.get_loop().call_soon_threadsafe(_resolve, batch, results)


def _resolve(batch: Sequence[QueuedJob[Job, Result]], results: Sequence[Result | BaseException]) -> None:
    for queued, result in zip(batch, results, strict=True):
        if queued.future.done():
            # The caller has left.
            continue
        if isinstance(result, BaseException):
            queued.future.set_exception(result)
        else:
            queued.future.set_result(result)
