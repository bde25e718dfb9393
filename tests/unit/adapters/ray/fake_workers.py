"""Workers without processes: each job waits until the test lets it end."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from parakeet_service.adapters.inference.engine import EngineFacts
from parakeet_service.adapters.inference.job_queue import Urgency
from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.ray.workers import Demand, StartedWorker, WorkerLostError
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
    """A worker whose batches end when the test says so, or at once."""

    number: int
    at_once: bool
    is_poison: Callable[[EncoderJob], bool]
    batches: list[tuple[list[EncoderJob], Urgency]] = field(default_factory=list)
    running: list[tuple[list[EncoderJob], asyncio.Future[None]]] = field(default_factory=list)
    beside: list[int] = field(default_factory=list)
    stopped: bool = False

    async def run(self, jobs: Sequence[EncoderJob], urgency: Urgency) -> Sequence[DecodeResult | Exception]:
        """Keep the batch until `finish` or `die`."""
        self.batches.append((list(jobs), urgency))
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.running.append((list(jobs), ended))
        self.beside.append(len(self.running))
        if any(self.is_poison(job) for job in jobs):
            self.die()
        elif self.at_once:
            self.finish()
        await ended
        return [result_of(job) for job in jobs]

    def finish(self) -> None:
        """End the oldest batch."""
        self.running.pop(0)[1].set_result(None)

    def die(self) -> None:
        """As kill -9 does: every call fails."""
        self.stopped = True
        for _, ended in self.running:
            ended.set_exception(WorkerLostError("killed"))
        self.running.clear()

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
        failures: Sequence[ModelLoadError | WorkerLostError] = (),
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
