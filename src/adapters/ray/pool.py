"""Workers that come, go and die, and the jobs that they run."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace

import structlog

from ...application.ports.metrics import ClusterMetrics
from ...domain.errors import InferenceError, ModelLoadError, ModelNotReadyError, ShuttingDownError
from ..inference.engine import EngineFacts
from ..inference.job_queue import JobQueue, QueuedJob, Urgency, weight_of
from ..inference.jobs import DecodeResult, EncoderJob
from .calls import Calls
from .dispatch import Dispatch, Place, Planner
from .workers import WorkerLostError, Workers

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_LEAST_QUEUE = 64


@dataclass(frozen=True, slots=True)
class PoolRules:
    """How the pool deals with loss.

    Attributes:
        most_losses: A job whose workers died so often is given up.
        first_pause_s: Before a worker is started again that could not be started; then twice that, and so on.
        longest_pause_s: At most.
        look_every_s: How often the number of workers is compared with the number wanted.
        patience_s: How long what runs may take at the end.
        gather_s: How long a window waits at least for others that go with it, where all workers have something to do.
    """

    most_losses: int = 3
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    look_every_s: float = 5.0
    patience_s: float = 15.0
    gather_s: float = 0.005


class WorkerPool:
    """Runs jobs on workers; belongs to one event loop.

    The decoder state of a live stream is part of its job and of its result, so any worker may run any job, and a job
    whose worker died runs again on another.
    """

    def __init__(
        self,
        workers: Workers,
        metrics: ClusterMetrics,
        *,
        sample_rate_hz: int,
        batch_size: int | None,
        most_waiting: int | None,
        rules: PoolRules | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Begin without a worker; `start` starts them.

        Args:
            workers: Starts workers.
            metrics: Counts jobs and workers.
            sample_rate_hz: Of the jobs.
            batch_size: Jobs in one batch; by default what suits the engine.
            most_waiting: Jobs of recordings that may wait; by default 16 for each that runs at once, at least 64.
            rules: How to deal with loss.
            clock: Seconds since any moment.
            sleep: Waits so many seconds.
        """
        self._workers = workers
        self._metrics = metrics
        self._batch_size = batch_size
        self._most_waiting = most_waiting
        self._rules = rules or PoolRules()
        self._clock = clock
        self._sleep = sleep
        self._planner = Planner(sample_rate_hz)
        self._queue: JobQueue[EncoderJob, DecodeResult] = JobQueue(
            most_waiting=most_waiting or _LEAST_QUEUE, most_per_batch=batch_size or 1, metrics=metrics
        )
        self._dispatch = Dispatch(self._queue, self._planner, batch_size=batch_size or 1)
        self._calls = Calls(
            self._dispatch,
            metrics,
            gather_s=self._rules.gather_s,
            clock=clock,
            keep=self._keep,
            on_loss=self._lost,
            on_leave=self._let_go,
        )
        self._numbers = itertools.count()
        self._losses: dict[int, int] = {}
        self._facts: EngineFacts | None = None
        self._wanted = 0
        self._starting: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def up(self) -> int:
        """Workers that take jobs."""
        return sum(not place.leaving for place in self._dispatch.places)

    async def start(self) -> None:
        """Connect, and start as many workers as are wanted; returns when the first is ready.

        Raises:
            ModelLoadError: There is no cluster, or the first worker to answer cannot load the model.
        """
        await self._workers.connect()
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resize((await self._workers.demand()).workers, first)
        await first
        self._keep(self._follow())

    async def aclose(self) -> None:
        """Let what runs finish, cancel what waits, and end the workers."""
        self._closed = True
        self._calls.close()
        self._queue.close()
        for suspect in self._dispatch.suspects:
            suspect.future.cancel()
        running = [queued.future for place in self._dispatch.places for queued in place.given.values()]
        if running:
            await asyncio.wait(running, timeout=self._rules.patience_s)
        for future in running:
            # No answer will be heard any more.
            future.cancel()
        tasks = [*self._starting.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(place.worker.stop() for place in self._dispatch.places))
        self._dispatch.places.clear()
        await self._workers.aclose()

    def facts(self) -> EngineFacts:
        """What the workers' engine is, and how many there are.

        Raises:
            ModelNotReadyError: No worker is up.
        """
        if self._facts is None:
            raise ModelNotReadyError("The workers are still being started.", retry_after_s=5)
        if not self.up:
            raise ModelNotReadyError("No worker is up; they are being started again.", retry_after_s=5)
        description = replace(
            self._facts.description,
            batch_size=self._per_worker * self.up,
            workers_up=self.up,
            workers_wanted=self._wanted,
        )
        return replace(self._facts, description=description)

    async def submit(self, job: EncoderJob, urgency: Urgency) -> DecodeResult:
        """Run a job on any worker; one that is cancelled before its turn leaves the queue.

        Raises:
            OverloadedError: Too many jobs of recordings wait.
            ShuttingDownError: The pool was closed.
            InferenceError: The engine failed, or worker after worker died of this job.
        """
        if self._closed:
            raise ShuttingDownError("The service is shutting down.")
        future: asyncio.Future[DecodeResult] = asyncio.get_running_loop().create_future()
        seconds, mean_s = self._planner.seconds(job), self._calls.mean_s / max(self.up, 1)
        queued = QueuedJob(job, urgency, seconds, next(self._numbers), self._clock(), future, weight_of(mean_s))
        self._queue.put(queued, mean_s=mean_s)
        self._calls.hand_out_soon(urgency)
        try:
            return await future
        finally:
            self._losses.pop(queued.number, None)
            if future.cancelled():
                self._queue.discard(queued)

    @property
    def _per_worker(self) -> int:
        return self._batch_size or (1 if self._facts is None else self._facts.description.batch_size)

    def _lost(self, place: Place) -> None:
        """A worker is dead: all that it was given runs elsewhere, and another is started. Heard once for each call."""
        if place not in self._dispatch.places:
            return
        self._dispatch.places.remove(place)
        self._metrics.worker_lost()
        suspects = [queued for queued in place.given.values() if not queued.future.done()]
        _log.warning("worker_lost", worker=place.number, windows=len(suspects), up=self.up, wanted=self._wanted)
        for queued in suspects:
            if self._closed:
                # None is started any more that could read it.
                queued.future.cancel()
                continue
            losses = self._losses[queued.number] = self._losses.get(queued.number, 0) + 1
            if losses < self._rules.most_losses:
                self._dispatch.suspects.append(queued)
            else:
                _log.error("window_given_up", workers=losses, samples=len(queued.job.samples))
                queued.future.set_exception(InferenceError(f"{losses} workers died of this audio."))
        place.given.clear()
        self._resize(self._wanted)
        self._calls.hand_out()

    def _resize(self, wanted: int, first: "asyncio.Future[None] | None" = None) -> None:
        """Start workers or have some leave, so that there are `wanted`."""
        if self._closed:
            return
        self._wanted = wanted
        staying = [place for place in self._dispatch.places if not place.leaving]
        for number in [number for number in self._starting if number >= wanted]:
            self._starting.pop(number).cancel()
        self._vacate(sorted(staying, key=lambda place: place.number)[wanted:])
        taken = {place.number for place in self._dispatch.places} | set(self._starting)
        free = (number for number in range(wanted) if number not in taken)
        missing = wanted - min(len(staying), wanted) - len(self._starting)
        for number in itertools.islice(free, max(missing, 0)):
            task = asyncio.create_task(self._start_worker(number, first))
            self._starting[number] = task
        self._metrics.workers_changed(up=self.up, wanted=wanted)

    def _vacate(self, places: Sequence[Place]) -> None:
        """Give them nothing new, and let them go once they have nothing left."""
        for place in places:
            _log.info("worker_leaves", worker=place.number, windows=len(place.given))
            place.leaving = True
            place.reserved = False
            if not place.given:
                self._keep(self._let_go(place))

    async def _let_go(self, place: Place) -> None:
        """Use an idle worker no longer; its number is free for another one."""
        if place not in self._dispatch.places:
            return
        self._dispatch.places.remove(place)
        await place.worker.stop()
        self._resize(self._wanted)

    async def _start_worker(self, number: int, first: "asyncio.Future[None] | None") -> None:
        """Start a worker, as often as it takes."""
        pause_s = self._rules.first_pause_s
        while True:
            try:
                started = await self._workers.start_worker(number)
                break
            except ModelLoadError as error:
                if first is not None and not first.done():
                    first.set_exception(error)
                reason = error.message
            except WorkerLostError as error:
                reason = str(error)
            except Exception as error:  # noqa: BLE001 - nobody awaits this, and its place would stay empty for ever
                reason = f"The worker could not be started: {error}"
                _log.error("unexpected_error_of_worker", worker=number, exc_info=error)
                if first is not None and not first.done():
                    first.set_exception(ModelLoadError(reason))
            _log.error("worker_not_started", worker=number, reason=reason, again_in_s=pause_s)
            await self._sleep(pause_s)
            pause_s = min(2 * pause_s, self._rules.longest_pause_s)
        del self._starting[number]
        if self._facts is None:
            self._know(started.facts)
        self._dispatch.places.append(Place(number, started.worker, started.machine))
        self._metrics.workers_changed(up=self.up, wanted=self._wanted)
        _log.info("worker_up", worker=number, up=self.up, wanted=self._wanted)
        if first is not None and not first.done():
            first.set_result(None)
        self._calls.hand_out()

    def _know(self, facts: EngineFacts) -> None:
        self._facts = facts
        size = self._per_worker
        self._queue.resize(
            most_waiting=self._most_waiting or max(16 * size * self._wanted, _LEAST_QUEUE), most_per_batch=size
        )
        self._dispatch.batch_size = size
        self._metrics.model_loaded(facts.description)

    async def _follow(self) -> None:
        """Keep as many workers as are wanted."""
        while True:
            await self._sleep(self._rules.look_every_s)
            demand = await self._workers.demand()
            for place in [place for place in self._dispatch.places if place.worker in demand.lost]:
                self._lost(place)
            on_leaving = [place for place in self._dispatch.places if place.machine in demand.leaving]
            self._vacate([place for place in on_leaving if not place.leaving])
            if demand.workers != self._wanted:
                _log.info("workers_wanted", before=self._wanted, wanted=demand.workers)
                self._resize(demand.workers)

    def _keep(self, work: Coroutine[object, object, None]) -> None:
        """Run a task that nobody awaits, and log what it raises."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("unexpected_error_in_pool", exc_info=error)
