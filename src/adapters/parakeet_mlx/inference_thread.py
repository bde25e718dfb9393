"""The one thread that owns MLX: its streams and arrays belong to the thread that made them."""

import asyncio
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

from ...application.ports.meter import Meter
from ...domain.errors import OverloadedError, ShuttingDownError

T = TypeVar("T")


class Urgency(IntEnum):
    """Whose turn is next: less goes first; equals go in the order in which they came."""

    LIVE = 0
    FILE = 1


@dataclass(order=True, slots=True)
class _Job:
    urgency: Urgency
    number: int
    work: Callable[[], Any] = field(compare=False)
    future: "Future[Any]" = field(compare=False)
    audio_s: Callable[[], float] | None = field(compare=False)
    came_at: float = field(compare=False, default_factory=time.monotonic)


class InferenceThread:
    """Runs jobs one at a time, urgent ones first; at most `most_waiting` files wait, live jobs are bounded by streams."""

    def __init__(self, *, most_waiting: int, meter: Meter) -> None:
        """Start the thread; it waits for jobs until `stop`."""
        self._most_waiting = most_waiting
        self._meter = meter
        self._numbers = itertools.count()
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._mean_s = 0.5  # of a file's job, a first guess
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], T], urgency: Urgency, *, audio_s: Callable[[], float] | None = None) -> T:
        """Run `work` in the thread; when cancelled before its turn, it leaves the queue.

        Args:
            work: What to run.
            urgency: Its rank.
            audio_s: If the work reads a window, tells the window's length in seconds afterwards, for the meter.

        Raises:
            OverloadedError: Too many files wait.
            ShuttingDownError: The thread was stopped.
        """
        future: Future[T] = Future()
        job = _Job(urgency, next(self._numbers), work, future, audio_s)
        with self._changed:
            if self._stopping:
                raise ShuttingDownError("The service is going away.")
            waiting = sum(other.urgency is Urgency.FILE for other in self._jobs)
            if urgency is Urgency.FILE and waiting >= self._most_waiting:
                self._meter.window_refused()
                retry_after_s = float(math.ceil(max(waiting * self._mean_s / 2, 1)))
                raise OverloadedError(f"{waiting} windows wait for the model already.", retry_after_s=retry_after_s)
            heapq.heappush(self._jobs, job)
            self._meter.queue_changed(depth=len(self._jobs))
            self._changed.notify()
        try:
            return await asyncio.wrap_future(future)
        finally:
            if future.cancelled():
                self._forget(job)

    def stop(self, *, patience_s: float = 10.0) -> None:
        """End the thread after the job it is at; what waits is cancelled.

        A job that takes longer than `patience_s`, such as fetching a model, is left behind: it ends with the process.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(patience_s)

    def _forget(self, job: _Job) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                heapq.heapify(self._jobs)
                self._meter.queue_changed(depth=len(self._jobs))

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            began = time.monotonic()
            if job.audio_s is not None:
                self._meter.window_began(live=job.urgency is Urgency.LIVE, waited_s=began - job.came_at)
            try:
                result = job.work()
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the one who waits for it
                job.future.set_exception(error)
            else:
                job.future.set_result(result)
            took_s = time.monotonic() - began
            if job.urgency is Urgency.FILE:
                self._mean_s += 0.1 * (took_s - self._mean_s)
            if job.audio_s is not None:
                self._meter.batch_read(size=1, audio_s=job.audio_s(), took_s=took_s)
            del job

    def _next(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._stopping)
            if not self._stopping:
                job = heapq.heappop(self._jobs)
                self._meter.queue_changed(depth=len(self._jobs))
                return job
            for job in self._jobs:
                job.future.cancel()
            return None
