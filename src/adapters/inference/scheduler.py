"""Who is read next, and with whom: one thread, one queue of windows, batches of equal length."""

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

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Urgency(IntEnum):
    """Whose turn is next: less goes first."""

    LIVE = 0
    SHORT = 1
    LONG = 2


_HEAD_START_S = {Urgency.LIVE: 20.0, Urgency.SHORT: 10.0, Urgency.LONG: 0.0}
"""How much earlier a window counts as having come, and later by its own length: a short one does not wait for many
long ones. Who waits long enough goes first: nobody starves."""


class Reader(Protocol[Item_contra, Result_co]):
    """What reads batches; all calls but `bucket`, `room` and `seconds` come from the scheduler's thread."""

    def bucket(self, item: Item_contra, /) -> Hashable:
        """Items that may be read as one batch have the same."""
        ...

    def room(self, item: Item_contra, waiting: int, /) -> int:
        """How many items like this one are worth reading as one batch, where so many wait."""
        ...

    def seconds(self, item: Item_contra, /) -> float:
        """How much audio it is."""
        ...

    def read(self, items: Sequence[Item_contra], /) -> "Generator[None, None, Sequence[Result_co | Exception]]":
        """Read a batch in steps; between two steps more urgent work may be done."""
        ...


@dataclass(eq=False, slots=True)
class _Job(Generic[Item, Result]):
    item: Item
    urgency: Urgency
    seconds: float
    number: int
    arrived: float
    future: "asyncio.Future[Result]"  # of the event loop, which alone may settle it

    @property
    def due(self) -> tuple[float, int]:
        return self.arrived - _HEAD_START_S[self.urgency] + self.seconds, self.number


class Scheduler(Generic[Item, Result]):
    """Reads windows in a thread of its own, which makes the reader, too, and lets nobody else touch it.

    The window that is due first is read next, together with others like it that wait; nothing waits for a batch to
    fill. Between two steps of a batch one batch of more urgent windows is read, so live text waits for a step, not
    for a recording, and every batch that was begun goes on. Recordings' windows are bounded in number, live ones by
    the number of streams.
    """

    def __init__(
        self,
        *,
        most_waiting: int,
        most_per_batch: int,
        metrics: ModelMetrics,
    ) -> None:
        """Begin with an empty queue; `start` begins to read.

        Args:
            most_waiting: Windows of recordings that may wait.
            most_per_batch: Windows read at once.
            metrics: Hears of the queue and of batches.
        """
        self._most_waiting = most_waiting
        self._most_per_batch = most_per_batch
        self._metrics = metrics
        self._numbers = itertools.count()
        self._jobs: list[_Job[Item, Result]] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._mean_s = 0.5  # of a window, a first guess
        self._reader: Reader[Item, Result] | None = None
        self._begun = False
        self._ended = threading.Event()

    async def start(self, make: Callable[[], Reader[Item, Result]]) -> None:
        """Make the reader, in the thread, and begin to read.

        Raises:
            Exception: Whatever `make` raises; then there is no thread.
        """
        made: Future[None] = Future()

        def run() -> None:
            try:
                self._reader = make()
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the one who waits for it
                made.set_exception(error)
            else:
                made.set_result(None)
                while (batch := self._wait()) is not None:
                    self._read(self._reader, batch)
                self._reader = None
            self._ended.set()
            # It sleeps until the process ends, and does not end before. When a thread ends, MLX frees what it keeps for
            # it, Python objects among that; if Python itself has begun to end by then, that aborts the process.
            threading.Event().wait()

        self._begun = True
        threading.Thread(target=run, name="inference", daemon=True).start()
        # Shielded: cancelling cannot stop the thread, and its result must find somebody.
        await asyncio.shield(asyncio.wrap_future(made))

    async def read(self, item: Item, urgency: Urgency) -> Result:
        """Have `item` read; when cancelled before its turn, it leaves the queue.

        Raises:
            OverloadedError: Too many windows of recordings wait.
            ShuttingDownError: The scheduler was stopped.
            Exception: What the reader gave instead of a result.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._stopping or self._reader is None:
                raise ShuttingDownError("The service is going away.")
            job = _Job(item, urgency, self._reader.seconds(item), next(self._numbers), time.monotonic(), future)
            waiting = sum(other.urgency is not Urgency.LIVE for other in self._jobs)
            if urgency is not Urgency.LIVE and waiting >= self._most_waiting:
                self._metrics.window_refused()
                retry_after_s = float(math.ceil(max(waiting * self._mean_s / 2, 1)))
                raise OverloadedError(f"{waiting} windows wait for the model already.", retry_after_s=retry_after_s)
            self._jobs.append(job)
            self._metrics.queue_changed(depth=len(self._jobs))
        # Once the event loop has handed over all that it has now: what comes together is read together.
        asyncio.get_running_loop().call_soon(self._wake)
        try:
            return await future
        finally:
            if future.cancelled():
                with self._changed:
                    if job in self._jobs:
                        self._jobs.remove(job)
                        self._metrics.queue_changed(depth=len(self._jobs))

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def stop(self, *, patience_s: float) -> None:
        """Free the reader after the batch it is at; what waits is cancelled.

        Work that takes longer than `patience_s`, such as fetching a model, is left behind: it ends with the process.
        """
        with self._changed:
            self._stopping = True
            for job in self._jobs:
                job.future.get_loop().call_soon_threadsafe(job.future.cancel)
            self._jobs.clear()
            self._metrics.queue_changed(depth=0)
            self._changed.notify()
        if self._begun:
            self._ended.wait(patience_s)

    def _wait(self) -> list[_Job[Item, Result]] | None:
        """The next batch, as soon as there is one; ``None`` at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._stopping)
            return None if self._stopping else self._take(self._jobs)

    def _take_before(self, urgency: Urgency) -> list[_Job[Item, Result]]:
        """The next batch of windows that are more urgent, if there are any."""
        with self._changed:
            return self._take([job for job in self._jobs if job.urgency < urgency])

    def _take(self, jobs: Sequence[_Job[Item, Result]]) -> list[_Job[Item, Result]]:
        """Take the job that is due first out of the queue, and those of its kind that fit beside it.

        What was cancelled just now is dropped, so that there may be nothing left.
        """
        if not jobs or self._reader is None:
            return []
        first = min(jobs, key=lambda job: job.due)
        bucket = self._reader.bucket(first.item)
        alike = [job for job in jobs if job.urgency is first.urgency and self._reader.bucket(job.item) == bucket]
        alike.sort(key=lambda job: job.due)
        waiting = min(len(alike), self._most_per_batch)
        batch = alike[: min(waiting, self._reader.room(first.item, waiting))]
        for job in batch:
            self._jobs.remove(job)
        self._metrics.queue_changed(depth=len(self._jobs))
        return [job for job in batch if not job.future.cancelled()]

    def _read(self, reader: Reader[Item, Result], batch: Sequence[_Job[Item, Result]]) -> float:
        """Read a batch, and what is more urgent between its steps; gives how long all that took, in seconds."""
        if not batch:
            return 0.0
        began, between = time.monotonic(), 0.0
        urgency = batch[0].urgency
        for job in batch:
            self._metrics.window_began(live=urgency is Urgency.LIVE, waited_s=began - job.arrived)
        steps = reader.read([job.item for job in batch])
        while True:
            try:
                next(steps)
            except StopIteration as end:
                _tell(batch, end.value)
                break
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to those who wait for it
                if len(batch) > 1:
                    # One window's fault must not be the others'.
                    return time.monotonic() - began + sum(self._read(reader, [job]) for job in batch)
                _tell(batch, [error])
                break
            between += self._read(reader, self._take_before(urgency))
        total = time.monotonic() - began
        self._note(reader, batch, took_s=total - between)
        return total

    def _note(self, reader: Reader[Item, Result], batch: Sequence[_Job[Item, Result]], *, took_s: float) -> None:
        urgency = batch[0].urgency
        if urgency is not Urgency.LIVE:
            self._mean_s += 0.1 * (took_s / len(batch) - self._mean_s)
        audio_s = sum(reader.seconds(job.item) for job in batch)
        self._metrics.batch_read(size=len(batch), audio_s=audio_s, took_s=took_s)
        _log.debug(
            "batch_read",
            urgency=urgency.name.lower(),
            size=len(batch),
            audio_s=round(audio_s, 2),
            took_s=round(took_s, 3),
            waiting=len(self._jobs),
        )


def _tell(batch: Sequence[_Job[Item, Result]], results: Sequence[Result | BaseException]) -> None:
    """Have the event loop settle a batch, all of it at once.

    Were it told of each window, this thread would lose its turn as often, for as long as the loop is busy.
    """
    # Once the loop is closed nobody waits any more.
    with suppress(RuntimeError):
        batch[0].future.get_loop().call_soon_threadsafe(_settle, batch, results)


def _settle(batch: Sequence[_Job[Item, Result]], results: Sequence[Result | BaseException]) -> None:
    for job, result in zip(batch, results, strict=True):
        if job.future.done():
            # Whoever asked has left.
            continue
        if isinstance(result, BaseException):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)
