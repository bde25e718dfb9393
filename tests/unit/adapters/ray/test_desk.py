"""Outcomes leave a worker as soon as there are some, in the answer to whichever call waits."""

import asyncio

import numpy as np

from parakeet_service.adapters.inference.decoding import DecoderState
from parakeet_service.adapters.inference.job_queue import Urgency
from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.ray.desk import Desk
from parakeet_service.adapters.ray.workers import Window
from parakeet_service.domain.errors import InferenceError, OverloadedError

STATE = DecoderState(0, 0, 0, np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))


class Engine:
    """Ends a job when the test says so."""

    def __init__(self) -> None:
        self.ends: dict[int, asyncio.Future[DecodeResult]] = {}

    async def run(self, job: EncoderJob, urgency: Urgency) -> DecodeResult:
        del urgency
        end: asyncio.Future[DecodeResult] = asyncio.get_running_loop().create_future()
        self.ends[job.first_frame] = end
        return await end

    def finish(self, *numbers: int) -> None:
        for number in numbers:
            self.ends.pop(number).set_result(DecodeResult((), (), number, 0, STATE))


def windows(*numbers: int, urgency: Urgency = Urgency.SHORT) -> list[Window]:
    return [Window(number, EncoderJob(np.zeros(1, np.float32), first_frame=number), urgency) for number in numbers]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_answers_with_a_batch_and_not_with_what_the_call_brought() -> None:
    engine, desk = Engine(), Desk()
    first = asyncio.create_task(desk.run(engine, windows(1, 2, 3)))
    await settle()
    engine.finish(3, 1)
    assert [number for number, _ in await first] == [3, 1]
    second = asyncio.create_task(desk.run(engine, windows()))
    await settle()
    assert not second.done()
    engine.finish(2)
    assert [number for number, _ in await second] == [2]


async def test_a_new_call_waits_in_the_place_of_the_last() -> None:
    engine, desk = Engine(), Desk()
    first = asyncio.create_task(desk.run(engine, windows(1)))
    await settle()
    second = asyncio.create_task(desk.run(engine, windows(2)))
    assert await first == []
    assert not second.done()
    engine.finish(1)
    assert [number for number, _ in await second] == [1]


async def test_what_ended_between_two_calls_is_told_to_the_next_at_once() -> None:
    engine, desk = Engine(), Desk()
    first = asyncio.create_task(desk.run(engine, windows(1, 2, 3)))
    await settle()
    engine.finish(1)
    await first
    engine.finish(2)
    await settle()
    assert [number for number, _ in await desk.run(engine, ())] == [2]


async def test_is_empty_once_everything_is_told() -> None:
    engine, desk = Engine(), Desk()
    assert desk.is_empty
    first = asyncio.create_task(desk.run(engine, windows(1)))
    await settle()
    assert not desk.is_empty
    second = asyncio.create_task(desk.run(engine, ()))
    await settle()
    second.cancel()
    engine.finish(1)
    await settle()
    assert not desk.is_empty
    await desk.run(engine, ())
    assert desk.is_empty
    await first


async def test_a_call_that_nothing_is_left_for_is_answered() -> None:
    assert await Desk().run(Engine(), ()) == []


async def test_a_state_travels_only_where_a_stream_goes_on_from_it() -> None:
    engine, desk = Engine(), Desk()
    live = asyncio.create_task(desk.run(engine, [*windows(1), *windows(2, urgency=Urgency.LIVE)]))
    await settle()
    engine.finish(1, 2)
    states = [outcome.state for _, outcome in await live if isinstance(outcome, DecodeResult)]
    assert states == [None, STATE]


async def test_failures_are_outcomes_of_their_own() -> None:
    engine, desk = Engine(), Desk()
    call = asyncio.create_task(desk.run(engine, windows(1, 2, 3, 4)))
    await settle()
    engine.ends[1].set_exception(OverloadedError("full", retry_after_s=1))
    engine.ends[2].set_exception(TypeError("a defect"))
    engine.ends[3].cancel()
    engine.finish(4)
    outcomes = dict(await call)
    assert isinstance(outcomes[1], OverloadedError)
    assert isinstance(outcomes[2], InferenceError)
    assert isinstance(outcomes[3], InferenceError)
    assert isinstance(outcomes[4], DecodeResult)


async def test_a_call_in_whose_place_another_waits_takes_no_outcome() -> None:
    engine, desk = Engine(), Desk()
    first = asyncio.create_task(desk.run(engine, windows(1)))
    await settle()
    # In one turn: a batch ends, and a front calls again.
    engine.finish(1)
    second = asyncio.create_task(desk.run(engine, ()))
    assert [number for number, _ in await second] == [1]
    assert await first == []
