"""The jobs that wait for a model: which run next, and which together."""

import asyncio
import math
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from ...application.ports.metrics import ModelMetrics
from ...domain.errors import OverloadedError, ShuttingDownError

Job = TypeVar("Job")
Job_contra = TypeVar("Job_contra", contravariant=True)
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Urgency(IntEnum):
    """Who goes first: the smaller number."""

    FINAL = 0
    """What ends an utterance."""
    LIVE = 1
    """What shows a draft."""
    SHORT = 2
    LONG = 3

    @property
    def is_live(self) -> bool:
        """Whether it belongs to a live stream, not to a recording."""
        return self <= Urgency.LIVE


_HEAD_START_S = {Urgency.FINAL: 25.0, Urgency.LIVE: 20.0, Urgency.SHORT: 10.0, Urgency.LONG: 0.0}
"""How much earlier a job counts as having arrived; it counts as later by its own length, so that a short job does not
wait for many long ones. A job that waits long enough goes first: none starves."""
_SLOW_S = 0.1
"""Where a job takes less than this, its length counts for less in proportion: a fast device soon gets to a long one."""


class BatchPlanner(Protocol[Job_contra]):
    """Says which jobs suit each other; may be called from any thread."""

    def company(self, jobs: Sequence[Job_contra], most: int, /) -> Sequence[int]:
        """Which of these jobs, given in the order of their turn, to run as one batch of up to `most`.

        The first is among them: nothing else may keep it waiting.
        """
        ...

    def seconds(self, job: Job_contra, /) -> float:
        """How much audio the job holds."""
        ...


class BatchRunner(BatchPlanner[Job_contra], Protocol[Job_contra, Result_co]):
    """Runs batches; `run` is called from the scheduler's thread only, the others from any."""

    def run(self, jobs: Sequence[Job_contra], /) -> "Generator[None, None, Sequence[Result_co | Exception]]":
        """Run jobs that keep each other company as a batch; between two steps of the generator more urgent batches may run.

        Returns:
            For each job its result, or why it has none.

        Raises:
            RuntimeError: The device failed.
        """
        ...


@dataclass(eq=False, slots=True)
class QueuedJob(Generic[Job, Result]):
    """A job that waits; its future belongs to an event loop, which alone may resolve it.

    `weight` says by how much its length puts its turn off: see `weight_of`.
    """

    job: Job
    urgency: Urgency
    seconds: float
    number: int
    arrived: float
    future: "asyncio.Future[Result]"
    weight: float = 1.0

    @property
    def due(self) -> tuple[float, int]:
        """Sorts jobs by their turn."""
        return self.arrived - _HEAD_START_S[self.urgency] + self.weight * self.seconds, self.number


def weight_of(mean_s: float) -> float:
    """By how much each second of a job's audio puts its turn off, where a job takes `mean_s` on average."""
    return min(mean_s / _SLOW_S, 1.0)


class JobQueue(Generic[Job, Result]):
    """May be used from any thread. The jobs of recordings are bounded in number, those of live streams are not."""

    def __init__(self, *, most_waiting: int, most_per_batch: int, metrics: ModelMetrics) -> None:
        """Begin empty; see `Scheduler` for the arguments."""
        self._most_waiting = most_waiting
        self._most_per_batch = most_per_batch
        self._metrics = metrics
        self._jobs: list[QueuedJob[Job, Result]] = []
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._jobs)

    def resize(self, *, most_waiting: int, most_per_batch: int) -> None:
        """Change the limits; what waits already stays."""
        with self._changed:
            self._most_waiting = most_waiting
            self._most_per_batch = most_per_batch

    def put(self, queued: QueuedJob[Job, Result], *, mean_s: float) -> None:
        """Add a job; `wake` has it noticed.

        Args:
            queued: The job.
            mean_s: How long a job of a recording takes, for the advice when to come again.

        Raises:
            OverloadedError: Too many jobs of recordings wait.
            ShuttingDownError: The queue was closed.
        """
        with self._changed:
            if self._closed:
                raise ShuttingDownError("The service is shutting down.")
            waiting = sum(not other.urgency.is_live for other in self._jobs)
            if not queued.urgency.is_live and waiting >= self._most_waiting:
                self._metrics.window_refused()
                message = f"The model's queue is full ({waiting} windows are waiting)."
                raise OverloadedError(message, retry_after_s=float(math.ceil(max(waiting * mean_s / 2, 1))))
            self._jobs.append(queued)
            self._metrics.queue_changed(depth=len(self._jobs))

    def wake(self) -> None:
        """Have `next_batch` look."""
        with self._changed:
            self._changed.notify()

    def discard(self, queued: QueuedJob[Job, Result]) -> None:
        """Take a job out, if its turn has not come."""
        with self._changed:
            if queued in self._jobs:
                self._jobs.remove(queued)
                self._metrics.queue_changed(depth=len(self._jobs))

    def close(self) -> None:
        """Cancel what waits, and refuse what comes."""
        with self._changed:
            self._closed = True
            for queued in self._jobs:
                queued.future.get_loop().call_soon_threadsafe(queued.future.cancel)
            self._jobs.clear()
            self._metrics.queue_changed(depth=0)
            self._changed.notify()

    def next_batch(self, runner: BatchPlanner[Job]) -> list[QueuedJob[Job, Result]] | None:
        """The next batch, as soon as there is one; ``None`` once the queue was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            return None if self._closed else self._take(runner, self._jobs)

    def take_batch(self, planner: BatchPlanner[Job], *, most: int) -> list[QueuedJob[Job, Result]]:
        """The next batch of up to `most` jobs, or an empty one if nothing waits; does not block."""
        with self._changed:
            return self._take(planner, self._jobs, most)

    def more_urgent_batch(self, runner: BatchPlanner[Job], urgency: Urgency) -> list[QueuedJob[Job, Result]]:
        """The next batch of jobs that are more urgent, if there are any."""
        with self._changed:
            return self._take(runner, [queued for queued in self._jobs if queued.urgency < urgency])

    def _take(
        self, runner: BatchPlanner[Job], candidates: Sequence[QueuedJob[Job, Result]], most: int | None = None
    ) -> list[QueuedJob[Job, Result]]:
        """Take out the candidate that is due first, and those like it that the runner wants beside it.

        Those are of its urgency; the drafts and finals of live streams go together.

        Jobs that were cancelled meanwhile are dropped, so the batch may be empty.
        """
        if not candidates:
            return []
        urgency = min(candidates, key=lambda queued: queued.due).urgency
        alike = sorted(
            (
                queued
                for queued in candidates
                if queued.urgency is urgency or (queued.urgency.is_live and urgency.is_live)
            ),
            key=lambda queued: queued.due,
        )
        batch = [alike[at] for at in runner.company([queued.job for queued in alike], most or self._most_per_batch)]
        for queued in batch:
            self._jobs.remove(queued)
        self._metrics.queue_changed(depth=len(self._jobs))
        return [queued for queued in batch if not queued.future.cancelled()]
