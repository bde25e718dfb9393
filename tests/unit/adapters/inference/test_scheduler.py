import asyncio
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from parakeet_service.adapters.inference.job_queue import Urgency
from parakeet_service.adapters.inference.scheduler import Scheduler
from parakeet_service.application.ports.metrics import ModelMetrics, NullMetrics
from parakeet_service.domain.errors import InferenceError, OverloadedError, ShuttingDownError


@dataclass(eq=False)
class Item:
    """A job.

    Attributes:
        steps: How many times running it yields.
        hold: The runner waits here before its first step.
    """

    name: str
    length: int = 1
    steps: int = 1
    hold: threading.Event | None = None
    error: Exception | None = None


@dataclass
class Runner:
    """Gives back the names in capitals, and notes what it did."""

    most: int = 8
    batches: list[list[str]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    asked: list[int] = field(default_factory=list)
    running: threading.Event = field(default_factory=threading.Event)
    together: bool = False
    """Whether an error is raised, rather than given in place of the one result."""

    def company(self, items: Sequence[Item], most: int) -> list[int]:
        alike = [at for at, item in enumerate(items) if item.length == items[0].length]
        self.asked.append(min(len(alike), most))
        return alike[: min(most, max(self.most // items[0].length, 1))]

    def seconds(self, item: Item) -> float:
        return float(item.length)

    def run(self, items: Sequence[Item]) -> Generator[None, None, list[str | Exception]]:
        self.batches.append([item.name for item in items])
        self.threads.add(threading.get_ident())
        self.running.set()
        for item in items:
            if item.hold is not None:
                item.hold.wait()
        for step in range(max(item.steps for item in items)):
            self.steps.append(f"{items[0].name}{step}")
            yield
        if self.together:
            for item in items:
                if item.error is not None:
                    raise item.error
        return [item.error or item.name.upper() for item in items]


ItemScheduler = Scheduler[Item, str]


@asynccontextmanager
async def scheduling(
    runner: Runner,
    *,
    waiting: int = 8,
    batch: int = 8,
    metrics: ModelMetrics | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[ItemScheduler]:
    scheduler: ItemScheduler = Scheduler(
        most_waiting=waiting, most_per_batch=batch, metrics=metrics or NullMetrics(), clock=clock
    )
    await scheduler.start(lambda: runner)
    try:
        yield scheduler
    finally:
        await asyncio.to_thread(scheduler.stop, patience_s=60)


async def held(scheduler: ItemScheduler, runner: Runner, urgency: Urgency = Urgency.SHORT, *, steps: int = 1) -> "Held":
    """Have the runner at work, until it is let go."""
    hold = threading.Event()
    task = asyncio.create_task(scheduler.submit(Item("held", hold=hold, steps=steps), urgency))
    await asyncio.to_thread(runner.running.wait)
    return Held(hold, task)


@dataclass
class Held:
    hold: threading.Event
    task: asyncio.Task[str]

    async def go(self, *others: asyncio.Task[str]) -> list[str]:
        self.hold.set()
        return await asyncio.gather(self.task, *others)


async def queued(scheduler: ItemScheduler, items: Sequence[tuple[Item, Urgency]]) -> list[asyncio.Task[str]]:
    tasks: list[asyncio.Task[str]] = []
    for item, urgency in items:
        tasks.append(asyncio.create_task(scheduler.submit(item, urgency)))
        await asyncio.sleep(0)
    return tasks


async def test_reads_in_the_thread_that_made_the_runner() -> None:
    runner, made = Runner(), list[int]()

    def make() -> Runner:
        made.append(threading.get_ident())
        return runner

    scheduler: ItemScheduler = Scheduler(most_waiting=1, most_per_batch=1, metrics=NullMetrics())
    await scheduler.start(make)
    assert [await scheduler.submit(Item(name), Urgency.SHORT) for name in "ab"] == ["A", "B"]
    await asyncio.to_thread(scheduler.stop, patience_s=60)
    assert set(made) == runner.threads
    assert threading.get_ident() not in runner.threads


async def test_the_runner_is_freed_and_its_thread_sleeps_on_for_what_mlx_keeps_there() -> None:
    made: list[weakref.ref[Runner]] = []

    def make() -> Runner:
        runner = Runner()
        made.append(weakref.ref(runner))
        return runner

    before = set(threading.enumerate())
    scheduler: ItemScheduler = Scheduler(most_waiting=1, most_per_batch=1, metrics=NullMetrics())
    await scheduler.start(make)
    await asyncio.to_thread(scheduler.stop, patience_s=60)

    assert made[0]() is None
    (thread,) = {thread for thread in threading.enumerate() if thread.name == "inference"} - before
    thread.join(0.2)
    assert thread.is_alive()
    assert thread.daemon, "or the process would not end"


async def test_a_runner_that_cannot_be_made_is_told() -> None:
    def make() -> Runner:
        raise ZeroDivisionError

    scheduler: ItemScheduler = Scheduler(most_waiting=1, most_per_batch=1, metrics=NullMetrics())
    with pytest.raises(ZeroDivisionError):
        await scheduler.start(make)
    await asyncio.to_thread(scheduler.stop, patience_s=60)


async def test_takes_live_windows_before_short_recordings_and_those_before_long_ones() -> None:
    runner = Runner()
    async with scheduling(runner, batch=1) as scheduler:
        holding = await held(scheduler, runner, Urgency.LIVE)
        names = [("long", Urgency.LONG), ("short", Urgency.SHORT), ("live", Urgency.LIVE), ("live 2", Urgency.LIVE)]
        tasks = await queued(scheduler, [(Item(name), urgency) for name, urgency in names])
        assert await holding.go(*tasks) == ["HELD", "LONG", "SHORT", "LIVE", "LIVE 2"]
    assert runner.batches == [["held"], ["live"], ["live 2"], ["short"], ["long"]]


async def test_finals_run_before_drafts_and_together_with_them() -> None:
    runner = Runner()
    async with scheduling(runner) as scheduler:
        holding = await held(scheduler, runner)
        items = [
            (Item("long draft", length=2), Urgency.LIVE),
            (Item("draft"), Urgency.LIVE),
            (Item("final"), Urgency.FINAL),
            (Item("recording"), Urgency.SHORT),
        ]
        await holding.go(*await queued(scheduler, items))
    assert runner.batches == [["held"], ["final", "draft"], ["long draft"], ["recording"]]


async def test_takes_a_little_window_before_big_ones_that_came_a_little_earlier() -> None:
    runner = Runner()
    async with scheduling(runner, batch=1) as scheduler:
        holding = await held(scheduler, runner)
        lengths = {"a": 16, "b": 16, "c": 3, "d": 16}
        tasks = await queued(scheduler, [(Item(name, length), Urgency.SHORT) for name, length in lengths.items()])
        await holding.go(*tasks)
    assert runner.batches[1:] == [["c"], ["a"], ["b"], ["d"]]


@pytest.mark.parametrize("urgency", [Urgency.SHORT, Urgency.LONG])
async def test_who_waits_long_enough_goes_first(urgency: Urgency) -> None:
    now = 100.0
    runner = Runner()
    async with scheduling(runner, batch=1, clock=lambda: now) as scheduler:
        holding = await held(scheduler, runner, Urgency.LIVE)
        old = await queued(scheduler, [(Item("old"), urgency)])
        now += 21
        young = await queued(scheduler, [(Item("young"), Urgency.LIVE)])
        await holding.go(*old, *young)
    assert runner.batches == [["held"], ["old"], ["young"]]


async def test_reads_what_waits_and_is_of_one_length_as_a_batch() -> None:
    runner = Runner()
    async with scheduling(runner) as scheduler:
        holding = await held(scheduler, runner)
        lengths = [1, 2, 1, 2, 1, 1]
        tasks = await queued(scheduler, [(Item(f"{i}", length), Urgency.SHORT) for i, length in enumerate(lengths)])
        assert await holding.go(*tasks) == ["HELD", *"012345"]
    assert runner.batches == [["held"], ["0", "2", "4", "5"], ["1", "3"]]


async def test_reads_together_what_comes_together() -> None:
    runner = Runner()
    async with scheduling(runner) as scheduler:
        await asyncio.gather(*(scheduler.submit(Item(f"{i}"), Urgency.SHORT) for i in range(8)))
    assert [len(batch) for batch in runner.batches] == [8]


@pytest.mark.parametrize(("most", "sizes"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 3, 1]), (7, [7]), (9, [7])])
async def test_a_batch_is_no_larger_than_allowed(most: int, sizes: list[int]) -> None:
    runner = Runner(most=100)
    async with scheduling(runner, batch=most) as scheduler:
        holding = await held(scheduler, runner)
        tasks = await queued(scheduler, [(Item(f"{i}"), Urgency.SHORT) for i in range(7)])
        await holding.go(*tasks)
    assert [len(batch) for batch in runner.batches[1:]] == sizes


async def test_a_batch_has_no_more_than_is_worth_while() -> None:
    runner = Runner(most=8)
    async with scheduling(runner) as scheduler:
        holding = await held(scheduler, runner)
        tasks = await queued(scheduler, [(Item(f"{i}", length=4), Urgency.SHORT) for i in range(4)])
        await holding.go(*tasks)
    assert [len(batch) for batch in runner.batches[1:]] == [2, 2]


async def test_the_runner_is_told_how_many_wait_that_could_be_read_together() -> None:
    runner = Runner(most=2)
    async with scheduling(runner, batch=3) as scheduler:
        holding = await held(scheduler, runner)
        lengths = [1, 1, 1, 1, 1, 2]
        tasks = await queued(scheduler, [(Item(f"{i}", length), Urgency.SHORT) for i, length in enumerate(lengths)])
        await holding.go(*tasks)
    assert runner.asked[1:] == [3, 3, 1, 1]


async def test_a_batch_has_windows_of_one_urgency() -> None:
    runner = Runner()
    async with scheduling(runner) as scheduler:
        holding = await held(scheduler, runner)
        urgencies = [Urgency.LONG, Urgency.LIVE, Urgency.SHORT, Urgency.LIVE]
        tasks = await queued(scheduler, [(Item(f"{i}"), urgency) for i, urgency in enumerate(urgencies)])
        await holding.go(*tasks)
    assert runner.batches[1:] == [["1", "3"], ["2"], ["0"]]


async def test_a_recording_gives_way_between_its_steps_and_goes_on() -> None:
    runner = Runner()
    async with scheduling(runner, batch=1) as scheduler:
        holding = await held(scheduler, runner, Urgency.LONG, steps=3)
        items = [("a", Urgency.SHORT), ("b", Urgency.LIVE), ("c", Urgency.SHORT), ("d", Urgency.LONG)]
        tasks = await queued(scheduler, [(Item(name, steps=2), urgency) for name, urgency in items])
        await holding.go(*tasks)
    # One more urgent batch after each step; a short one gives way to live ones, too, but not to its like.
    assert runner.steps == ["held0", "b0", "b1", "held1", "a0", "a1", "held2", "c0", "c1", "d0", "d1"]


async def test_live_windows_give_way_to_nobody() -> None:
    runner = Runner()
    async with scheduling(runner, batch=1) as scheduler:
        holding = await held(scheduler, runner, Urgency.LIVE, steps=3)
        tasks = await queued(scheduler, [(Item("a"), Urgency.SHORT), (Item("b"), Urgency.LIVE)])
        await holding.go(*tasks)
    assert runner.steps == ["held0", "held1", "held2", "b0", "a0"]


async def test_refuses_recordings_when_full_but_never_live_windows() -> None:
    runner = Runner()
    async with scheduling(runner, waiting=3) as scheduler:
        holding = await held(scheduler, runner)
        tasks = await queued(scheduler, [(Item(f"{i}"), Urgency.SHORT) for i in range(3)])
        for urgency in (Urgency.SHORT, Urgency.LONG):
            with pytest.raises(OverloadedError) as refusal:
                await scheduler.submit(Item("refused"), urgency)
            assert refusal.value.retry_after_s >= 1
        tasks += await queued(scheduler, [(Item("live"), Urgency.LIVE)])
        assert await holding.go(*tasks) == ["HELD", "0", "1", "2", "LIVE"]


async def test_a_cancelled_window_leaves_the_queue_and_frees_its_place() -> None:
    runner = Runner()
    async with scheduling(runner, waiting=3, batch=1) as scheduler:
        holding = await held(scheduler, runner)
        tasks = await queued(scheduler, [(Item(f"{i}"), Urgency.SHORT) for i in range(3)])
        tasks.pop(1).cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks += await queued(scheduler, [(Item("another"), Urgency.SHORT)])
        await holding.go(*tasks)
    assert runner.batches == [["held"], ["0"], ["2"], ["another"]]


async def test_a_window_without_a_result_fails_alone() -> None:
    runner = Runner()
    async with scheduling(runner) as scheduler:
        holding = await held(scheduler, runner)
        items = [Item("a"), Item("b", error=InferenceError("spoilt")), Item("c"), Item("d")]
        tasks = await queued(scheduler, [(item, Urgency.SHORT) for item in items])
        with pytest.raises(InferenceError):
            await holding.go(*tasks)
        assert [await tasks[i] for i in (0, 2, 3)] == ["A", "C", "D"]
    assert len(runner.batches) == 2


async def test_a_batch_that_fails_is_read_again_one_by_one() -> None:
    runner = Runner(together=True)
    async with scheduling(runner) as scheduler:
        holding = await held(scheduler, runner)
        items = [Item("a"), Item("b", error=RuntimeError("spoils all")), Item("c"), Item("d")]
        tasks = await queued(scheduler, [(item, Urgency.SHORT) for item in items])
        with pytest.raises(RuntimeError):
            await holding.go(*tasks)
        assert [await tasks[i] for i in (0, 2, 3)] == ["A", "C", "D"]
    assert runner.batches[1:] == [["a", "b", "c", "d"], ["a"], ["b"], ["c"], ["d"]]


class Counts(NullMetrics):
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.depths: list[int] = []
        self.began: list[bool] = []
        self.read: list[tuple[int, float]] = []
        self.refused = 0

    def queue_changed(self, *, depth: int) -> None:
        self.depths.append(depth)

    def window_refused(self) -> None:
        self.refused += 1

    def window_began(self, *, live: bool, waited_s: float) -> None:
        assert waited_s >= 0
        self.began.append(live)

    def batch_read(self, *, size: int, audio_s: float, took_s: float) -> None:
        assert took_s >= 0
        self.read.append((size, audio_s))


async def test_tells_its_meter_what_waits_what_is_read_and_what_is_refused() -> None:
    runner, counts = Runner(), Counts()
    async with scheduling(runner, waiting=2, metrics=counts) as scheduler:
        holding = await held(scheduler, runner)
        tasks = await queued(scheduler, [(Item("a", 3), Urgency.LONG), (Item("b", 3), Urgency.LONG)])
        with pytest.raises(OverloadedError):
            await scheduler.submit(Item("refused"), Urgency.SHORT)
        tasks += await queued(scheduler, [(Item("live"), Urgency.LIVE)])
        await holding.go(*tasks)
    assert counts.depths == [1, 0, 1, 2, 3, 2, 0, 0]
    assert counts.began == [False, True, False, False]
    assert counts.read == [(1, 1.0), (1, 1.0), (2, 6.0)]
    assert counts.refused == 1


async def test_tells_its_meter_who_gave_up() -> None:
    runner, counts = Runner(), Counts()
    async with scheduling(runner, metrics=counts) as scheduler:
        holding = await held(scheduler, runner)
        (waiting,) = await queued(scheduler, [(Item("a"), Urgency.SHORT)])
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await holding.go()
    assert counts.depths == [1, 0, 1, 0, 0]


async def test_stopping_cancels_what_waits_and_refuses_what_comes() -> None:
    runner = Runner()
    async with scheduling(runner) as scheduler:
        holding = await held(scheduler, runner)
        (waiting,) = await queued(scheduler, [(Item("waiting"), Urgency.SHORT)])
        stopping = asyncio.create_task(asyncio.to_thread(scheduler.stop, patience_s=60))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(ShuttingDownError):
            await scheduler.submit(Item("late"), Urgency.LIVE)
        assert await holding.go() == ["HELD"]
        await stopping


async def test_a_batch_that_takes_too_long_is_left_behind() -> None:
    runner = Runner()
    async with scheduling(runner) as scheduler:
        holding = await held(scheduler, runner)
        await asyncio.to_thread(scheduler.stop, patience_s=0.0)
        assert not holding.task.done()
        assert await holding.go() == ["HELD"]
