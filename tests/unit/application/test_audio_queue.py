"""The queue between who speaks and who listens."""

import asyncio

import numpy as np

from parakeet_service.application.audio_queue import AudioQueue, Control
from parakeet_service.domain.audio import Samples


def _samples(count: int, value: float = 0.0) -> Samples:
    return np.full(count, value, np.float32)


async def test_waits_for_a_hop() -> None:
    queue = AudioQueue(hop=10, longest=100, most=100)
    dequeuing = asyncio.create_task(queue.dequeue())
    await queue.enqueue(_samples(9))
    await asyncio.sleep(0)
    assert not dequeuing.done()
    await queue.enqueue(_samples(1))
    taken = await dequeuing
    assert not isinstance(taken, Control)
    assert len(taken) == 10


async def test_gives_a_piece_before_a_control_and_then_the_control() -> None:
    queue = AudioQueue(hop=10, longest=100, most=100)
    await queue.enqueue(_samples(3))
    await queue.enqueue(Control.FLUSH)
    taken = await queue.dequeue()
    assert not isinstance(taken, Control)
    assert len(taken) == 3
    assert await queue.dequeue() is Control.FLUSH


async def test_those_who_wait_for_room_enqueue_in_their_order() -> None:
    queue = AudioQueue(hop=1, longest=4, most=4)
    await queue.enqueue(_samples(4))
    waiting = [asyncio.create_task(queue.enqueue(_samples(4, value))) for value in (1.0, 2.0, 3.0)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    taken: list[Samples | Control] = [await queue.dequeue() for _ in range(4)]
    await asyncio.gather(*waiting)
    assert [piece[0] for piece in taken if not isinstance(piece, Control)] == [0.0, 1.0, 2.0, 3.0]


async def test_who_waits_for_room_and_gives_up_lets_the_next_in() -> None:
    queue = AudioQueue(hop=1, longest=4, most=4)
    await queue.enqueue(_samples(4))
    first, second = (asyncio.create_task(queue.enqueue(_samples(4, value))) for value in (1.0, 2.0))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await queue.dequeue()
    await second
    taken = await queue.dequeue()
    assert not isinstance(taken, Control)
    assert taken[0] == 2.0
    assert queue.received == 8
