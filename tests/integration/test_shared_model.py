"""One model for several processes: each is served, and what kills the model for one of them harms no other."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from parakeet_service.adapters.isolation.model import IsolatedModel
from parakeet_service.adapters.processes.connection import Connection
from parakeet_service.application.ports.metrics import NullMetrics
from parakeet_service.application.ports.speech_model import SpeechModel, StreamContext
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import InferenceError, ModelNotReadyError, ShuttingDownError
from parakeet_service.domain.transcript import Token
from tests.contracts.speech_model import SpeechModelContract
from tests.scripted_model import ScriptedModel

from .crashing_model import DEADLY, CrashingModel, ModelWithWorkers, Orders, samples_that_are, scripted_model

CONTEXT = StreamContext(left_s=1, chunk_s=0.5, right_s=0.5)
SPOKEN = samples_that_are(0.9)
SOON = (0.01,) * 10_000


class WithItsOwner(IsolatedModel):
    """Shares the model of an owner that lives as long as it does."""

    def __init__(self, max_streams: int) -> None:
        self._place = tempfile.mkdtemp()
        path = f"{self._place}/model.sock"
        self._owner = IsolatedModel(partial(scripted_model, max_streams=max_streams), path=path)
        super().__init__(None, path=path, pauses_s=SOON)

    async def start(self) -> None:
        await self._owner.start()
        await super().start()

    async def aclose(self) -> None:
        await super().aclose()
        await self._owner.aclose()
        shutil.rmtree(self._place)


class TestSharedModel(SpeechModelContract):
    def make(self, *, max_streams: int = 4) -> SpeechModel:
        return WithItsOwner(max_streams)


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    return Orders(tmp_path)


@asynccontextmanager
async def running(orders: Orders, *, others: int = 2) -> AsyncGenerator[tuple[IsolatedModel, Sequence[IsolatedModel]]]:
    """The owner of a model, and those that share it."""
    path = str(orders.directory / "model.sock")
    owner = IsolatedModel(partial(CrashingModel, orders.directory), path=path, pauses_s=SOON, ping_every_s=60)
    sharing = [IsolatedModel(None, path=path, pauses_s=SOON) for _ in range(others)]
    async with AsyncExitStack() as stack:
        for model in (owner, *sharing):
            stack.push_async_callback(model.aclose)
        await asyncio.gather(*(model.start() for model in (*sharing, owner)))
        yield owner, sharing


def kill(owner: IsolatedModel) -> None:
    assert owner.pid is not None
    os.kill(owner.pid, signal.SIGKILL)


async def expected(samples: Samples = SPOKEN) -> tuple[Token, ...]:
    model = ScriptedModel()
    await model.start()
    return await model.transcribe(samples)


async def test_who_came_before_the_model_was_loaded_is_served_too(orders: Orders) -> None:
    async with running(orders) as (owner, sharing):
        read = await asyncio.gather(*(model.transcribe(SPOKEN) for model in (owner, *sharing)))
        assert read == [await expected()] * 3
        assert {model.describe() for model in (owner, *sharing)} == {owner.describe()}
    assert len(orders.notes("start")) == 1


async def test_who_waits_for_a_model_that_dies_while_it_loads_gets_the_next_one(orders: Orders) -> None:
    path = str(orders.directory / "model.sock")
    first, second = (IsolatedModel(partial(CrashingModel, orders.directory), path=path) for _ in range(2))
    sharing = IsolatedModel(None, path=path, pauses_s=SOON)
    orders.give("hold_start")
    loading = asyncio.create_task(first.start())
    waiting = asyncio.create_task(sharing.start())
    await orders.noted("start", 1)
    # It is connected already: all that wait shall be ready together.
    while _connections(path) < 1:
        await asyncio.sleep(0.01)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    orders.take_back("hold_start")
    await second.start()
    try:
        await waiting
        assert await sharing.transcribe(SPOKEN) == await expected()
    finally:
        await sharing.aclose()
        await second.aclose()
        await first.aclose()


def _connections(path: str) -> int:
    """At the end that listens, without the listener."""
    return sum(str(one.laddr) == path for one in psutil.net_connections("unix")) - 1


async def test_the_windows_of_all_are_read_again_when_the_model_is_killed(orders: Orders) -> None:
    async with running(orders) as (owner, sharing):
        orders.give("hold")
        reading = [asyncio.create_task(model.transcribe(SPOKEN)) for model in (owner, *sharing)]
        await orders.noted("window", 3)
        kill(owner)
        orders.take_back("hold")
        assert await asyncio.gather(*reading) == [await expected()] * 3
    assert len(orders.notes("start")) == 2


async def test_a_window_that_kills_the_model_costs_the_others_nothing(orders: Orders) -> None:
    async with running(orders, others=3) as (_, sharing):
        orders.give("hold")
        innocent = [asyncio.create_task(model.transcribe(SPOKEN)) for model in sharing for _ in range(2)]
        await orders.noted("window", 6)
        deadly = asyncio.create_task(sharing[0].transcribe(samples_that_are(DEADLY)))
        await orders.noted("start", 2)
        orders.take_back("hold")
        assert await asyncio.gather(*innocent) == [await expected()] * 6
        with pytest.raises(InferenceError, match="twice"):
            await deadly
    # Each once with all, and once again: nobody was beside the second crash.
    assert len(orders.notes("window")) == 2 * (6 + 1)


async def test_who_leaves_takes_nothing_from_those_that_stay(orders: Orders) -> None:
    async with running(orders) as (owner, (leaving, staying)):
        orders.give("hold")
        left = asyncio.create_task(leaving.transcribe(SPOKEN))
        reading = asyncio.create_task(staying.transcribe(SPOKEN))
        await orders.noted("window", 2)
        await leaving.aclose()
        orders.take_back("hold")
        assert await reading == await expected()
        with pytest.raises(ShuttingDownError):
            await left
        assert await owner.transcribe(SPOKEN) == await expected()
    assert len(orders.notes("start")) == 1


async def test_all_learn_how_many_workers_the_model_has_now(orders: Orders) -> None:
    path = str(orders.directory / "model.sock")
    orders.give("worker_0")
    async with AsyncExitStack() as stack:
        make = partial(ModelWithWorkers, orders.directory)
        models = [IsolatedModel(each, path=path) for each in (make, None, None)]
        for model in models:
            await model.start()
            stack.push_async_callback(model.aclose)

        async def all_have(workers: int) -> None:
            while any(model.describe().workers_up != workers for model in models):
                await asyncio.sleep(0.01)

        await all_have(1)
        orders.give("worker_1")
        await all_have(2)
        orders.take_back("worker_0")
        orders.take_back("worker_1")
        for model in models:
            while _is_ready(model):
                await asyncio.sleep(0.01)
            with pytest.raises(ModelNotReadyError, match="No worker") as refusal:
                model.describe()
            assert refusal.value.retry_after_s == 7
        # What the model itself still takes is not held up by that.
        assert await models[1].transcribe(SPOKEN) == await expected()
        orders.give("worker_1")
        while not all(_is_ready(model) for model in models):
            await asyncio.sleep(0.01)


def _is_ready(model: IsolatedModel) -> bool:
    try:
        model.describe()
    except ModelNotReadyError:
        return False
    return True


async def test_streams_of_two_processes_with_the_same_number_are_two(tmp_path: Path) -> None:
    path = str(tmp_path / "model.sock")
    async with AsyncExitStack() as stack:
        owner, one, other = (IsolatedModel(make, path=path) for make in (scripted_model, None, None))
        for model in (owner, one, other):
            await model.start()
            stack.push_async_callback(model.aclose)
        first = await stack.enter_async_context(one.open_stream(CONTEXT))
        second = await stack.enter_async_context(other.open_stream(CONTEXT))
        await first.decode(SPOKEN, start_s=0.0)
        assert (await first.flush()).finalized
        assert not (await second.flush()).finalized


async def test_a_stream_whose_process_is_gone_gives_its_place_back(tmp_path: Path) -> None:
    path = str(tmp_path / "model.sock")
    owner = IsolatedModel(partial(scripted_model, max_streams=1), path=path)
    await owner.start()
    try:
        other = IsolatedModel(None, path=path, pauses_s=SOON)
        await other.start()
        async with other.open_stream(CONTEXT):
            await other.aclose()
            while True:
                try:
                    async with owner.open_stream(CONTEXT):
                        break
                except Exception as busy:  # noqa: BLE001 - asserted
                    assert "in use" in str(busy)  # noqa: PT017 - until it is free
                    await asyncio.sleep(0.01)
    finally:
        await owner.aclose()


class Counted(NullMetrics):
    windows = 0

    def window_began(self, *, live: bool, waited_s: float) -> None:
        del live, waited_s
        self.windows += 1


async def test_only_the_owner_counts_what_the_model_does(orders: Orders) -> None:
    path = str(orders.directory / "model.sock")
    ours, theirs = Counted(), Counted()
    owner = IsolatedModel(partial(CrashingModel, orders.directory), path=path, metrics=ours)
    other = IsolatedModel(None, path=path, metrics=theirs)
    try:
        await owner.start()
        await other.start()
        await other.transcribe(SPOKEN)
        while not ours.windows:
            await asyncio.sleep(0.01)
    finally:
        await other.aclose()
        await owner.aclose()
    assert (ours.windows, theirs.windows) == (1, 0)


async def test_garbage_and_orders_that_only_the_parent_may_give_end_the_connection_alone(orders: Orders) -> None:
    async with running(orders) as (owner, _):
        path = str(orders.directory / "model.sock")
        for bad in (b"\0\0\0\4nope", b"\xff\xff\xff\xff", b"\0\0\0\x0b\x81\xa4type\xa4Stop"):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(bad)
            assert await reader.read() == b""
            writer.close()
        assert await owner.transcribe(SPOKEN) == await expected()
    assert len(orders.notes("start")) == 1


async def test_connecting_waits_until_somebody_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "model.sock")
    connecting = asyncio.create_task(Connection.open(path))
    await asyncio.sleep(0)
    owner = IsolatedModel(scripted_model, path=path)
    await owner.start()
    connection = await connecting
    await connection.end(patience_s=0)
    await owner.aclose()
