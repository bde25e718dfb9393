"""What of a live stream's audio goes to the process that has its model, and when."""

import asyncio
from typing import Any

import numpy as np
import pytest
from msgspec.msgpack import Decoder

from parakeet_service.adapters.isolation.host import Decode, Flush
from parakeet_service.adapters.isolation.stream import IsolatedRecognitionStream
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.hypothesis import Hypothesis

RATE_HZ, HOP = 100, 100
TENTH = 10


class Model:
    """The other process: remembers what it was asked, and answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, float | None]] = []
        self.answers: list[asyncio.Future[Hypothesis | None]] = []

    async def __call__(self, request: Decode | Flush, results: Decoder[Any]) -> Any:
        del results
        start_s = request.start_s if isinstance(request, Decode) else None
        self.asked.append((type(request).__name__, len(request.samples), start_s))
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    def answer(self, until_s: float | None) -> None:
        """Answer the oldest question."""
        hypothesis = None if until_s is None else Hypothesis((), (), 0.0, until_s)
        self.answers.pop(0).set_result(hypothesis)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def stream(model: Model) -> IsolatedRecognitionStream:
    return IsolatedRecognitionStream(model, 7, hop=HOP, rate_hz=RATE_HZ)


def tenth() -> Samples:
    return np.ones(TENTH, np.float32)


async def give(stream: IsolatedRecognitionStream, tenths: int) -> list["asyncio.Task[Hypothesis | None]"]:
    """Give so many tenths of a second, none of which waits for another."""
    tasks: list[asyncio.Task[Hypothesis | None]] = []
    for _ in range(tenths):
        tasks.append(asyncio.create_task(stream.decode(tenth())))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_nothing_is_sent_before_a_draft_can_be_made(model: Model, stream: IsolatedRecognitionStream) -> None:
    tasks = await give(stream, 9)
    assert model.asked == []
    assert [task.result() for task in tasks] == [None] * 9
    (last,) = await give(stream, 1)
    assert model.asked == [("Decode", HOP, None)]
    model.answer(1.0)
    hypothesis = await last
    assert hypothesis is not None
    assert hypothesis.decoded_until_s == 1.0


async def test_a_draft_that_waits_is_sent_more_in_pieces(model: Model, stream: IsolatedRecognitionStream) -> None:
    (*_, draft) = await give(stream, 10)
    along = await give(stream, 6)
    assert model.asked[1:] == [("Decode", 30, None), ("Decode", 30, None)]
    for until_s in (1.6, None, None):
        model.answer(until_s)
    assert await draft is not None
    await asyncio.gather(*along)
    # All of it was taken along, so that the next draft needs a whole chunk.
    await give(stream, 9)
    assert len(model.asked) == 3
    await give(stream, 1)
    assert model.asked[3] == ("Decode", HOP, None)


async def test_what_came_too_late_for_a_draft_counts_for_the_next(
    model: Model, stream: IsolatedRecognitionStream
) -> None:
    await give(stream, 16)
    for until_s in (1.0, None, None):
        model.answer(until_s)
    await give(stream, 3)
    assert len(model.asked) == 3
    await give(stream, 1)
    # 60 that it has, and these.
    assert model.asked[3] == ("Decode", 40, None)


async def test_a_jump_is_sent_at_once_and_what_was_kept_is_forgotten(
    model: Model, stream: IsolatedRecognitionStream
) -> None:
    await give(stream, 4)
    jumping = asyncio.create_task(stream.decode(tenth(), start_s=5.0))
    await asyncio.sleep(0)
    assert model.asked == [("Decode", TENTH, 5.0)]
    model.answer(None)
    assert await jumping is None
    await give(stream, 8)
    assert len(model.asked) == 1
    await give(stream, 1)
    assert model.asked[1] == ("Decode", 90, None)


async def test_a_flush_brings_what_was_kept(model: Model, stream: IsolatedRecognitionStream) -> None:
    await give(stream, 3)
    flushing = asyncio.create_task(stream.flush())
    await asyncio.sleep(0)
    assert model.asked == [("Flush", 30, None)]
    model.answer(0.3)
    assert (await flushing).decoded_until_s == 0.3
    flushing = asyncio.create_task(stream.flush())
    await asyncio.sleep(0)
    assert model.asked[1] == ("Flush", 0, None)
    model.answer(0.3)
    await flushing


async def test_samples_are_sent_in_their_order(model: Model) -> None:
    sent: list[float] = []

    async def step(request: Decode | Flush, results: Decoder[Any]) -> Any:
        sent.extend(request.samples.tolist())
        return await model(request, results)

    stream = IsolatedRecognitionStream(step, 1, hop=HOP, rate_hz=RATE_HZ)
    tasks: list[asyncio.Task[Any]] = []
    for at in range(0, HOP + 20, TENTH):
        tasks.append(asyncio.create_task(stream.decode(np.arange(at, at + TENTH, dtype=np.float32))))
        await asyncio.sleep(0)
    flushing = asyncio.create_task(stream.flush())
    await asyncio.sleep(0)
    assert sent == list(range(HOP + 20))
    for task in (*tasks, flushing):
        task.cancel()
