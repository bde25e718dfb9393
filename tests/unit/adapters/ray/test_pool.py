"""Jobs on workers that come, go and die."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from parakeet_service.adapters.inference.job_queue import Urgency
from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.ray.pool import PoolRules, WorkerPool
from parakeet_service.adapters.ray.workers import WorkerLostError
from parakeet_service.application.ports.metrics import NullMetrics
from parakeet_service.domain.errors import (
    InferenceError,
    ModelLoadError,
    ModelNotReadyError,
    OverloadedError,
    ShuttingDownError,
)

from .fake_workers import RATE_HZ, FakeWorker, FakeWorkers


class CountedMetrics(NullMetrics):
    """Remembers what happened to workers."""

    def __init__(self) -> None:
        self.lost = 0
        self.workers: tuple[int, int] = (0, 0)
        self.answered: list[tuple[int, float]] = []

    def worker_lost(self) -> None:
        self.lost += 1

    def workers_changed(self, *, up: int, wanted: int) -> None:
        self.workers = (up, wanted)

    def worker_answered(self, *, worker: int, audio_s: float) -> None:
        self.answered.append((worker, audio_s))


class Sleeps:
    """A sleep that ends when the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._ends: list[asyncio.Future[None]] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends.append(end)
        await end

    def pass_by(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            if not end.done():
                end.set_result(None)


async def settle() -> None:
    """Let every task go as far as it can without the test."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def started(
    workers: FakeWorkers,
    *,
    sleeps: Sleeps | None = None,
    metrics: CountedMetrics | None = None,
    most_waiting: int | None = None,
    gather_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[WorkerPool]:
    """A pool with all of its workers up."""
    pool = WorkerPool(
        workers,
        metrics or CountedMetrics(),
        sample_rate_hz=RATE_HZ,
        batch_size=None,
        most_waiting=most_waiting,
        rules=PoolRules(patience_s=0.0, gather_s=gather_s),
        clock=clock,
        sleep=sleeps or Sleeps(),
    )
    await pool.start()
    await settle()
    try:
        yield pool
    finally:
        await pool.aclose()


def job(number: int, seconds: float = 1.0) -> EncoderJob:
    """A job that its `first_frame` tells from others."""
    return EncoderJob(np.zeros(int(seconds * RATE_HZ), np.float32), first_frame=number)


def submitted(
    pool: WorkerPool, *jobs: EncoderJob, urgency: Urgency = Urgency.SHORT
) -> list[asyncio.Task[DecodeResult]]:
    """Tasks that wait for results."""
    return [asyncio.create_task(pool.submit(one, urgency)) for one in jobs]


def numbers(worker: FakeWorker) -> list[list[int]]:
    """Whose jobs were in the batches that a worker was given."""
    return [[one.first_frame for one in jobs] for jobs, _ in worker.batches]


async def test_shares_a_burst_among_idle_workers() -> None:
    workers = FakeWorkers(2, at_once=True)
    async with started(workers) as pool:
        results = await asyncio.gather(*submitted(pool, job(1), job(2)))
    assert [result.finalized_until for result in results] == [1, 2]
    assert [numbers(worker) for worker in workers.started] == [[[1]], [[2]]]


async def test_gives_the_next_batch_to_the_least_loaded_worker() -> None:
    workers = FakeWorkers(2)
    async with started(workers) as pool:
        first = submitted(pool, job(1, 20.0))
        await settle()
        second = submitted(pool, job(2, 1.0))
        await settle()
        third = submitted(pool, job(3, 1.0))
        await settle()
        assert [numbers(worker) for worker in workers.started] == [[[1]], [[2], [3]]]
        for worker in workers.started:
            while worker.running:
                worker.finish()
        await asyncio.gather(*first, *second, *third)


async def test_takes_turns_among_workers_that_have_nothing_to_do() -> None:
    workers = FakeWorkers(2, at_once=True)
    async with started(workers) as pool:
        for number in range(4):
            await asyncio.gather(*submitted(pool, job(number)))
    assert [numbers(worker) for worker in workers.started] == [[[0], [2]], [[1], [3]]]


async def test_keeps_what_workers_cannot_begin_in_its_own_queue() -> None:
    workers = FakeWorkers(1)
    async with started(workers) as pool:
        tasks = submitted(pool, *(job(number) for number in range(7)))
        await settle()
        (worker,) = workers.started
        assert numbers(worker) == [[0, 1, 2, 3]]
        tasks[4].cancel()
        await settle()
        worker.finish(1)
        await settle()
        assert numbers(worker)[1] == [5]
        worker.finish()
        worker.finish()
        await settle()
        worker.finish()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, DecodeResult) for result in done] == [number != 4 for number in range(7)]


async def test_gives_each_result_when_its_batch_has_ended_whatever_else_the_call_brought() -> None:
    workers = FakeWorkers(1)
    async with started(workers) as pool:
        tasks = submitted(pool, *(job(number) for number in range(4)))
        await settle()
        (worker,) = workers.started
        worker.finish(2)
        await settle()
        assert [task.done() for task in tasks] == [True, True, False, False]
        # Nothing else waits, and yet somebody must hear of the rest.
        assert worker.calls == 2
        worker.finish()
        results = await asyncio.gather(*tasks)
    assert [result.finalized_until for result in results] == [0, 1, 2, 3]
    assert worker.calls == 2


async def test_shares_a_burst_evenly_to_its_end() -> None:
    workers = FakeWorkers(2)
    async with started(workers) as pool:
        tasks = submitted(pool, *(job(number, seconds) for number, seconds in enumerate((9, 9, 9, 9, 9, 9, 9, 9))))
        await settle()
        assert [numbers(worker) for worker in workers.started] == [[[0, 2, 4, 6]], [[1, 3, 5, 7]]]
        for worker in workers.started:
            worker.finish()
        await asyncio.gather(*tasks)
        # The long one is due last, and goes where there is less.
        tasks = submitted(pool, *(job(number, seconds) for number, seconds in enumerate((3, 4, 5, 20))))
        await settle()
        assert [numbers(worker)[1] for worker in workers.started] == [[0, 2], [1, 3]]
        for worker in workers.started:
            worker.finish()
        await asyncio.gather(*tasks)


async def test_calls_are_of_bounded_size() -> None:
    workers = FakeWorkers(1)
    async with started(workers) as pool:
        tasks = submitted(pool, *(job(number, 100.0) for number in range(4)))
        await settle()
        (worker,) = workers.started
        assert numbers(worker) == [[0, 1], [2, 3]]
        worker.finish()
        worker.finish()
        await asyncio.gather(*tasks)


async def test_windows_that_come_one_by_one_go_to_busy_workers_together() -> None:
    workers = FakeWorkers(1)
    async with started(workers, gather_s=0.001) as pool:
        tasks = submitted(pool, job(0))
        await settle()
        tasks += submitted(pool, job(1))
        await settle()
        tasks += submitted(pool, job(2))
        await settle()
        (worker,) = workers.started
        assert numbers(worker) == [[0]]
        while len(worker.batches) == 1:
            await asyncio.sleep(0.001)
        assert numbers(worker) == [[0], [1, 2]]
        worker.finish()
        worker.finish()
        await asyncio.gather(*tasks)


async def test_where_batches_take_long_windows_wait_longer_for_others() -> None:
    workers, now_s = FakeWorkers(1), 0.0
    async with started(workers, clock=lambda: now_s) as pool:
        tasks = submitted(pool, job(0), job(1))
        await settle()
        (worker,) = workers.started
        now_s = 100.0
        worker.finish(1)
        await settle()
        tasks += submitted(pool, job(2))
        await settle()
        assert numbers(worker) == [[0, 1]]
        while len(worker.batches) == 1:
            await asyncio.sleep(0.001)
        assert numbers(worker) == [[0, 1], [2]]
        worker.finish()
        worker.finish()
        await asyncio.gather(*tasks)


async def test_fast_workers_soon_get_to_a_long_window() -> None:
    workers, now_s = FakeWorkers(1, at_once=True), 0.0
    async with started(workers, clock=lambda: now_s) as pool:
        (worker,) = workers.started
        for number in range(60):
            # The pool learns that a window takes no time worth speaking of.
            await pool.submit(job(number), Urgency.SHORT)
        worker.at_once = False
        tasks = submitted(pool, *(job(number) for number in range(100, 104)))
        await settle()
        tasks += submitted(pool, job(200, seconds=30.0))
        await settle()
        now_s = 2.0
        tasks += submitted(pool, job(201))
        await settle()
        assert numbers(worker)[-1] == [100, 101, 102, 103]
        worker.finish(1)
        await settle()
        assert numbers(worker)[-1] == [200]
        while worker.running:
            worker.finish()
            await settle()
        await asyncio.gather(*tasks)


async def test_the_end_of_an_utterance_waits_for_no_others() -> None:
    workers = FakeWorkers(1)
    async with started(workers, gather_s=60.0) as pool:
        tasks = submitted(pool, job(0))
        await settle()
        tasks += submitted(pool, job(1))
        await settle()
        tasks += submitted(pool, job(2), urgency=Urgency.FINAL)
        await settle()
        (worker,) = workers.started
        # Those that are ready go along.
        assert sorted(numbers(worker)) == [[0], [2, 1]]
        worker.finish()
        worker.finish()
        await asyncio.gather(*tasks)


async def test_a_defect_of_a_worker_leaves_nobody_waiting() -> None:
    workers = FakeWorkers(1)
    async with started(workers) as pool:
        tasks = submitted(pool, job(0))
        await settle()
        (worker,) = workers.started
        worker.broken = True
        tasks += submitted(pool, job(1))
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in done] == [InferenceError, InferenceError]
        worker.broken = False
        worker.finish()
        worker.finish()
        tasks = submitted(pool, job(2))
        await settle()
        worker.finish()
        assert (await tasks[0]).finalized_until == 2


async def test_a_defect_of_a_worker_keeps_nothing_in_the_queue() -> None:
    workers = FakeWorkers(1)
    async with started(workers) as pool:
        given = submitted(pool, *map(job, range(4)))
        await settle()
        (worker,) = workers.started
        # The worker holds all that it may, and is asked again when its first batch has ended.
        waiting = submitted(pool, job(4), job(5), job(6))
        await settle()
        worker.broken = True
        worker.finish(1)
        await settle()
        done = await asyncio.gather(*given, *waiting, return_exceptions=True)
    assert [type(result) for result in done] == [DecodeResult, *[InferenceError] * 6]


async def test_a_worker_with_a_defect_can_leave() -> None:
    workers, sleeps = FakeWorkers(2), Sleeps()
    async with started(workers, sleeps=sleeps) as pool:
        tasks = submitted(pool, *map(job, range(4)))
        await settle()
        workers.count = 1
        sleeps.pass_by()
        await settle()
        leaving = workers.started[1]
        leaving.broken = True
        # It is asked for the rest.
        leaving.finish(1)
        await settle()
        assert leaving.stopped
        workers.started[0].finish()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_windows_of_which_a_worker_knows_nothing_are_not_waited_for() -> None:
    workers = FakeWorkers(1)
    async with started(workers) as pool:
        tasks = submitted(pool, job(0), job(1))
        await settle()
        (worker,) = workers.started
        worker.finish(1)
        worker.running.clear()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in done] == [DecodeResult, InferenceError]
        assert worker.calls == 2


async def test_live_windows_go_to_a_worker_that_is_full_of_recordings() -> None:
    workers = FakeWorkers(1)
    async with started(workers) as pool:
        tasks = submitted(pool, *(job(number) for number in range(6)))
        await settle()
        live = submitted(pool, job(9), urgency=Urgency.LIVE)
        await settle()
        (worker,) = workers.started
        assert worker.batches[-1][1] is Urgency.LIVE
        assert numbers(worker)[-1] == [9]
        for task in (*tasks, *live):
            task.cancel()


async def test_runs_the_jobs_of_a_dead_worker_on_another_and_replaces_it() -> None:
    metrics = CountedMetrics()
    workers = FakeWorkers(2)
    async with started(workers, metrics=metrics) as pool:
        tasks = submitted(pool, job(1), job(2))
        await settle()
        workers.started[0].die()
        await settle()
        assert metrics.lost == 1
        assert metrics.workers == (2, 2)
        assert [worker.number for worker in workers.started] == [0, 1, 0]
        for _ in range(3):
            for worker in workers.started:
                if worker.running:
                    worker.finish()
            await settle()
        results = await asyncio.gather(*tasks)
    assert [result.finalized_until for result in results] == [1, 2]


async def test_gives_up_a_job_that_kills_worker_after_worker_and_no_other() -> None:
    metrics = CountedMetrics()
    workers = FakeWorkers(2, at_once=True, is_poison=lambda one: one.first_frame == 13)
    async with started(workers, metrics=metrics) as pool:
        tasks = submitted(pool, *(job(number) for number in range(10, 20)))
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, InferenceError) for result in done] == [number == 13 for number in range(10, 20)]
        assert metrics.lost == 3
        await settle()
        assert pool.up == 2
    for worker in workers.started:
        for (jobs, _), beside in zip(worker.batches, worker.beside, strict=True):
            if worker.stopped and len(jobs) == 1 and jobs[0].first_frame == 13:
                assert beside == 1


async def test_a_suspect_runs_alone_until_it_is_done() -> None:
    workers = FakeWorkers(1)
    async with started(workers) as pool:
        tasks = submitted(pool, job(1))
        await settle()
        workers.started[0].die()
        await settle()
        tasks += submitted(pool, job(2))
        await settle()
        second = workers.started[1]
        assert numbers(second) == [[1]]
        second.finish()
        await settle()
        assert numbers(second) == [[1], [2]]
        second.finish()
        await asyncio.gather(*tasks)


async def test_is_not_ready_without_workers_and_keeps_what_waits() -> None:
    sleeps = Sleeps()
    workers = FakeWorkers(1, at_once=True)
    async with started(workers, sleeps=sleeps) as pool:
        assert pool.facts().description.workers_up == 1
        workers.failures.append(WorkerLostError("no machine"))
        workers.started[0].at_once = False
        tasks = submitted(pool, job(1))
        await settle()
        workers.started[0].die()
        await settle()
        with pytest.raises(ModelNotReadyError):
            pool.facts()
        assert not tasks[0].done()
        sleeps.pass_by()
        assert (await tasks[0]).finalized_until == 1
        assert pool.facts().description.workers_up == 1


async def test_tries_again_with_longer_pauses() -> None:
    sleeps = Sleeps()
    workers = FakeWorkers(2, failures=[WorkerLostError("1")])
    async with started(workers, sleeps=sleeps) as pool:
        workers.failures.extend(WorkerLostError("again") for _ in range(2))
        for _ in range(4):
            sleeps.pass_by()
            await settle()
        assert [pause for pause in sleeps.asked if pause != PoolRules().look_every_s] == [0.5, 1.0, 2.0]
        assert pool.up == 2


async def test_start_fails_where_the_model_cannot_be_loaded() -> None:
    workers = FakeWorkers(1, failures=[ModelLoadError("bad weights")])
    with pytest.raises(ModelLoadError, match="bad weights"):
        async with started(workers):
            pass


async def test_start_fails_where_a_worker_has_a_defect() -> None:
    with pytest.raises(ModelLoadError, match="no such module"):
        async with started(FakeWorkers(1, failures=[RuntimeError("no such module")])):
            pass


async def test_a_worker_that_could_not_be_started_for_a_defect_is_tried_again() -> None:
    workers, sleeps = FakeWorkers(1), Sleeps()
    async with started(workers, sleeps=sleeps) as pool:
        tasks = submitted(pool, job(1))
        await settle()
        workers.failures.append(RuntimeError("a defect"))
        workers.started[0].die()
        await settle()
        assert pool.up == 0
        sleeps.pass_by()
        await settle()
        assert pool.up == 1
        workers.started[1].finish()
        await asyncio.gather(*tasks)


async def test_who_waits_for_a_worker_that_dies_at_the_end_waits_no_longer() -> None:
    workers = FakeWorkers(1)
    pool = WorkerPool(
        workers,
        CountedMetrics(),
        sample_rate_hz=RATE_HZ,
        batch_size=None,
        most_waiting=None,
        rules=PoolRules(patience_s=600.0),
    )
    await pool.start()
    (task,) = submitted(pool, job(1))
    await settle()
    closing = asyncio.create_task(pool.aclose())
    await settle()
    workers.started[0].die()
    await settle()
    assert task.cancelled()
    await closing


async def test_follows_the_number_of_workers_wanted() -> None:
    sleeps = Sleeps()
    workers = FakeWorkers(1)
    async with started(workers, sleeps=sleeps) as pool:
        tasks = submitted(pool, job(1))
        workers.count = 3
        sleeps.pass_by()
        await settle()
        assert pool.up == 3
        workers.count = 1
        tasks += submitted(pool, job(2))
        await settle()
        sleeps.pass_by()
        await settle()
        assert pool.up == 1
        leaving = [worker for worker in workers.started if worker.running and worker.number]
        assert [worker.stopped for worker in leaving] == [False]
        for worker in workers.started:
            if worker.running:
                worker.finish()
        await asyncio.gather(*tasks)
        await settle()
        assert [worker.stopped for worker in workers.started] == [False, True, True]


async def test_workers_of_a_machine_that_leaves_finish_and_are_replaced() -> None:
    sleeps = Sleeps()
    metrics = CountedMetrics()
    workers = FakeWorkers(2)
    async with started(workers, sleeps=sleeps, metrics=metrics) as pool:
        tasks = submitted(pool, job(1), job(2))
        await settle()
        first, second = workers.started
        workers.leaving = {"machine 1"}
        sleeps.pass_by()
        await settle()
        assert (pool.up, first.stopped) == (1, False)
        tasks += submitted(pool, job(3))
        await settle()
        assert [numbers(worker) for worker in workers.started] == [[[1]], [[2], [3]]]
        first.finish()
        await settle()
        assert first.stopped
        # On another machine, under the same number: nobody else's worker has it now.
        assert [worker.number for worker in workers.started] == [0, 1, 0]
        assert metrics.workers == (2, 2)
        second.finish()
        second.finish()
        assert [result.finalized_until for result in await asyncio.gather(*tasks)] == [1, 2, 3]
    assert metrics.lost == 0


async def test_a_worker_that_dies_with_nothing_to_do_is_replaced() -> None:
    sleeps = Sleeps()
    metrics = CountedMetrics()
    workers = FakeWorkers(2)
    async with started(workers, sleeps=sleeps, metrics=metrics) as pool:
        first, second = workers.started
        workers.lost = {first}
        sleeps.pass_by()
        await settle()
        assert metrics.lost == 1
        assert [worker.number for worker in workers.started] == [0, 1, 0]
        assert pool.up == 2
        # It is told of once more, and is known.
        sleeps.pass_by()
        await settle()
        assert metrics.lost == 1
        assert not second.stopped


async def test_a_machine_that_leaves_takes_its_worker_out_of_the_number_wanted() -> None:
    sleeps = Sleeps()
    workers = FakeWorkers(2)
    async with started(workers, sleeps=sleeps) as pool:
        workers.leaving, workers.count = {"machine 1"}, 1
        sleeps.pass_by()
        await settle()
        assert pool.up == 1
        assert [worker.stopped for worker in workers.started] == [True, False]


async def test_turns_recordings_away_when_the_queue_is_full_but_no_live_window() -> None:
    workers = FakeWorkers(1)
    async with started(workers, most_waiting=1) as pool:
        tasks = submitted(pool, job(1))
        await settle()
        tasks += submitted(pool, job(2))
        await settle()
        tasks += submitted(pool, job(3))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await pool.submit(job(4), Urgency.LONG)
        live = submitted(pool, job(5), urgency=Urgency.LIVE)
        await settle()
        assert not live[0].done()
        for task in (*tasks, *live):
            task.cancel()


async def test_refuses_jobs_once_it_is_closed_and_stops_the_workers() -> None:
    workers = FakeWorkers(2)
    async with started(workers) as pool:
        waiting = submitted(pool, *(job(number) for number in range(20)))
        await settle()
    assert all(worker.stopped for worker in workers.started)
    assert workers.closed
    with pytest.raises(ShuttingDownError):
        await pool.submit(job(1), Urgency.SHORT)
    await settle()
    # Those that were given to a worker, too, whose answers will not be heard.
    assert all(task.cancelled() for task in waiting)
    for task in waiting:
        task.cancel()
