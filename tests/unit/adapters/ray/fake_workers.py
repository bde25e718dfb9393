"""Workers without processes: each job waits until the test lets it end."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from parakeet_service.adapters.inference.engine import EngineFacts
from parakeet_service.adapters.inference.job_queue import Urgency
from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.ray.workers import Demand, Outcome, StartedWorker, Window, WorkerLostError
from parakeet_service.application.ports.speech_model import ModelDescription
from parakeet_service.domain.errors import ModelLoadError

RATE_HZ = 16000
FACTS = EngineFacts(
    ModelDescription("fake", "tdt", ("en",), "fp32", "float32", "cpu", None, RATE_HZ, 30.0, batch_size=2), 0.08, True
)


def result_of(job: EncoderJob) -> DecodeResult:
    """What a worker gives for a job: its `first_frame` tells whose it is."""
    return DecodeResult((), (), finalized_until=job.first_frame, decoded_until=len(job.samples), state=job.state)


@dataclass(eq=False)
class FakeWorker:
    """A worker that runs the windows of each call as one batch, which ends when the test says so, or at once."""

    number: int
    at_once: bool
    is_poison: Callable[[EncoderJob], bool]
    batches: list[tuple[list[EncoderJob], Urgency]] = field(default_factory=list)
    running: list[list[Window]] = field(default_factory=list)
    beside: list[int] = field(default_factory=list)
    calls: int = 0
    stopped: bool = False
    broken: bool = False
    _dead: bool = False
    _done: list[tuple[int, Outcome]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, windows: Sequence[Window]) -> Sequence[tuple[int, Outcome]]:
        """Keep the windows until `finish` or `die`."""
        self.calls += 1
        if windows:
            self.batches.append(([window.job for window in windows], windows[0].urgency))
            self.running.append(list(windows))
            self.beside.append(len(self.running))
        if self.broken:
            raise TypeError("a defect")
        if any(self.is_poison(window.job) for window in windows):
            self.die()
        elif self.at_once and windows:
            self.finish()
        self._news.set()
        news = self._news = asyncio.Event()
        if self.running and not self._done:
            await news.wait()
        if self._dead:
            raise WorkerLostError("killed")
        done, self._done = self._done, []
        return done

    def finish(self, count: int | None = None) -> None:
        """End the oldest batch, or so many windows of it."""
        batch = self.running.pop(0)
        ended = batch[:count]
        if len(ended) < len(batch):
            self.running.insert(0, batch[len(ended) :])
        self._done += [(window.number, result_of(window.job)) for window in ended]
        self._news.set()

    def die(self) -> None:
        """As kill -9 does: every call fails."""
        self.stopped = self._dead = True
        self.running.clear()
        self._news.set()

    async def stop(self) -> None:
        """Remember it."""
        self.stopped = True


class FakeWorkers:
    """Starts fake workers, and fails to where the test wants it."""

    def __init__(
        self,
        count: int,
        *,
        at_once: bool = False,
        is_poison: Callable[[EncoderJob], bool] = lambda _: False,
        failures: Sequence[ModelLoadError | WorkerLostError | RuntimeError] = (),
    ) -> None:
        """Want `count` workers; the first starts fail with `failures`."""
        self.count = count
        self.started: list[FakeWorker] = []
        self.closed = False
        self.leaving: set[str] = set()
        self.lost: set[FakeWorker] = set()
        self._at_once = at_once
        self._is_poison = is_poison
        self.failures = list(failures)

    async def connect(self) -> None:
        """Nothing to do."""

    async def demand(self) -> Demand:
        """What the test wants."""
        return Demand(self.count, self.leaving, self.lost)

    async def start_worker(self, number: int) -> StartedWorker:
        """A worker at once, or the next failure."""
        if self.failures:
            raise self.failures.pop(0)
        worker = FakeWorker(number, self._at_once, self._is_poison)
        self.started.append(worker)
        return StartedWorker(worker, FACTS, f"machine {len(self.started)}")

    async def aclose(self) -> None:
        """Remember it."""
        self.closed = True
