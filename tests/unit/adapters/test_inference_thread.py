import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from parakeet_service.adapters.parakeet_mlx.inference_thread import InferenceThread, Urgency
from parakeet_service.application.ports.meter import Unmetered
from parakeet_service.domain.errors import OverloadedError, ShuttingDownError


@pytest.fixture
async def thread() -> AsyncIterator[InferenceThread]:
    thread = InferenceThread(most_waiting=3, meter=Unmetered())
    yield thread
    await asyncio.to_thread(thread.stop)


class Gate:
    """A job that holds the thread until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        self.opened.wait()


async def held(thread: InferenceThread) -> tuple[Gate, asyncio.Task[None]]:
    gate = Gate()
    task = asyncio.create_task(thread.run(gate, Urgency.FILE))
    await asyncio.to_thread(gate.entered.wait)
    return gate, task


def noting(order: list[str], name: str) -> Callable[[], None]:
    return lambda: order.append(name)


async def test_runs_everything_in_one_thread(thread: InferenceThread) -> None:
    idents = [await thread.run(threading.get_ident, urgency) for urgency in (Urgency.FILE, Urgency.LIVE, Urgency.FILE)]
    assert len(set(idents)) == 1
    assert idents[0] != threading.get_ident()


async def test_takes_live_jobs_before_files_and_equals_in_order(thread: InferenceThread) -> None:
    gate, holding = await held(thread)
    order: list[str] = []
    jobs = [("file 1", Urgency.FILE), ("live 1", Urgency.LIVE), ("file 2", Urgency.FILE), ("live 2", Urgency.LIVE)]
    tasks = [asyncio.create_task(thread.run(noting(order, name), urgency)) for name, urgency in jobs]
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(holding, *tasks)
    assert order == ["live 1", "live 2", "file 1", "file 2"]


async def test_refuses_files_when_full_but_never_live_jobs(thread: InferenceThread) -> None:
    gate, holding = await held(thread)
    waiting = [asyncio.create_task(thread.run(int, Urgency.FILE)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as refusal:
        await thread.run(int, Urgency.FILE)
    assert refusal.value.retry_after_s >= 1
    live = asyncio.create_task(thread.run(int, Urgency.LIVE))
    await asyncio.sleep(0)
    gate.opened.set()
    assert await asyncio.gather(holding, live, *waiting) == [None, 0, 0, 0, 0]


async def test_a_cancelled_job_leaves_the_queue_and_frees_its_place(thread: InferenceThread) -> None:
    gate, holding = await held(thread)
    order: list[str] = []
    waiting = [asyncio.create_task(thread.run(noting(order, str(i)), Urgency.FILE)) for i in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[1]
    another = asyncio.create_task(thread.run(noting(order, "another"), Urgency.FILE))
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(holding, waiting[0], waiting[2], another)
    assert order == ["0", "2", "another"]


async def test_goes_on_after_a_job_that_fails(thread: InferenceThread) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await thread.run(fail, Urgency.FILE)
    assert await thread.run(lambda: 7, Urgency.FILE) == 7


async def test_stopping_cancels_what_waits() -> None:
    thread = InferenceThread(most_waiting=3, meter=Unmetered())
    gate, holding = await held(thread)
    waiting = asyncio.create_task(thread.run(int, Urgency.FILE))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(asyncio.to_thread(thread.stop))
    refused = False
    while not refused:
        probe = asyncio.create_task(thread.run(int, Urgency.LIVE))
        await asyncio.sleep(0)
        refused = probe.done() and isinstance(probe.exception(), ShuttingDownError)
    gate.opened.set()
    await asyncio.gather(stopping, holding)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_job_that_takes_too_long_is_left_behind() -> None:
    thread = InferenceThread(most_waiting=3, meter=Unmetered())
    gate, holding = await held(thread)
    await asyncio.to_thread(thread.stop, patience_s=0.0)
    assert not holding.done()
    gate.opened.set()
    await holding


class Counts(Unmetered):
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.depths: list[int] = []
        self.began: list[bool] = []
        self.read: list[tuple[int, float]] = []
        self.refused = 0
        self.waited_s: list[float] = []

    def queue_changed(self, *, depth: int) -> None:
        self.depths.append(depth)

    def window_refused(self) -> None:
        self.refused += 1

    def window_began(self, *, live: bool, waited_s: float) -> None:
        self.began.append(live)
        self.waited_s.append(waited_s)

    def batch_read(self, *, size: int, audio_s: float, took_s: float) -> None:
        assert took_s >= 0
        self.read.append((size, audio_s))


async def test_tells_its_meter_what_waits_what_is_read_and_what_is_refused() -> None:
    counts = Counts()
    thread = InferenceThread(most_waiting=1, meter=counts)
    gate, holding = await held(thread)
    live = asyncio.create_task(thread.run(int, Urgency.LIVE, audio_s=lambda: 3.0))
    file = asyncio.create_task(thread.run(int, Urgency.FILE, audio_s=lambda: 20.0))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await thread.run(int, Urgency.FILE, audio_s=lambda: 1.0)
    assert counts.depths == [1, 0, 1, 2]
    gate.opened.set()
    await asyncio.gather(holding, live, file)
    await asyncio.to_thread(thread.stop)
    assert counts.depths == [1, 0, 1, 2, 1, 0]
    # What held the thread read no window.
    assert counts.began == [True, False]
    assert counts.read == [(1, 3.0), (1, 20.0)]
    assert counts.refused == 1
    assert min(counts.waited_s) > 0


async def test_tells_its_meter_who_gave_up() -> None:
    counts = Counts()
    thread = InferenceThread(most_waiting=1, meter=counts)
    gate, holding = await held(thread)
    waiting = asyncio.create_task(thread.run(int, Urgency.FILE, audio_s=lambda: 1.0))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert counts.depths == [1, 0, 1, 0]
    gate.opened.set()
    await holding
    await asyncio.to_thread(thread.stop)
    assert (counts.began, counts.read) == ([], [])
