"""The connection between a front and a worker, without Ray."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from parakeet_service.adapters.ray.line import Door, Line, listen
from parakeet_service.adapters.ray.workers import WorkerLostError

FRONT = "0123456789abcdef"


@dataclass
class Worker:
    """Answers with what it was sent, and a call that says so only when the test lets it."""

    heard: list[tuple[str, bytes, int]] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, front: str, head: bytes, sound: bytes) -> bytes:
        self.heard.append((front, head, len(sound)))
        if head == b"wait":
            await self.may_answer.wait()
        if head == b"defect":
            raise TypeError("a defect")
        return head + sound


@asynccontextmanager
async def listening(worker: Worker) -> AsyncGenerator[Door]:
    server, door = await listen("127.0.0.1", worker.answer)
    try:
        yield door
    finally:
        server.close()


async def heard(worker: Worker, count: int) -> None:
    while len(worker.heard) < count:
        await asyncio.sleep(0.01)


async def test_answers_come_to_their_calls_whichever_is_ready_first() -> None:
    worker = Worker()
    async with listening(worker) as door:
        line = await Line.to(door, FRONT)
        slow = asyncio.create_task(line.call(b"wait", b""))
        await heard(worker, 1)
        long = bytes(range(256)) * 40_000
        assert await line.call(b"", long) == long
        assert await line.call(b"", b"") == b""
        worker.may_answer.set()
        assert await slow == b"wait"
        assert worker.heard == [(FRONT, b"wait", 0), (FRONT, b"", len(long)), (FRONT, b"", 0)]
        line.close()


async def test_a_call_that_its_caller_left_harms_no_other() -> None:
    worker = Worker()
    async with listening(worker) as door:
        line = await Line.to(door, FRONT)
        left = asyncio.create_task(line.call(b"wait", b""))
        await heard(worker, 1)
        left.cancel()
        worker.may_answer.set()
        assert await line.call(b"next", b"") == b"next"
        line.close()


async def test_a_defect_of_the_worker_is_told_and_ends_nothing() -> None:
    async with listening(Worker()) as door:
        line = await Line.to(door, FRONT)
        with pytest.raises(RuntimeError, match="TypeError: a defect"):
            await line.call(b"defect", b"")
        assert await line.call(b"next", b"") == b"next"
        line.close()


async def test_who_waits_hears_that_the_worker_is_lost() -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(50)
        writer.transport.abort()

    server = await asyncio.start_server(end, "127.0.0.1", 0)
    door = Door("127.0.0.1", server.sockets[0].getsockname()[1], bytes(16))
    line = await Line.to(door, FRONT)
    calls = [asyncio.create_task(line.call(b"", b"x")) for _ in range(2)]
    for call in calls:
        with pytest.raises(WorkerLostError):
            await call
    with pytest.raises(WorkerLostError):
        await line.call(b"", b"")
    server.close()


async def test_who_waits_hears_that_this_end_was_closed_even_if_the_worker_takes_nothing() -> None:
    closed = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closed.wait()
        writer.transport.abort()

    server = await asyncio.start_server(hang, "127.0.0.1", 0, limit=1)
    line = await Line.to(Door("127.0.0.1", server.sockets[0].getsockname()[1], bytes(16)), FRONT)
    call = asyncio.create_task(line.call(b"", bytes(64 << 20)))
    await asyncio.sleep(0.1)
    line.close()
    with pytest.raises(WorkerLostError):
        await asyncio.wait_for(call, 5)
    closed.set()
    server.close()


async def test_a_worker_that_is_gone_is_lost() -> None:
    async with listening(Worker()) as door:
        pass
    with pytest.raises(WorkerLostError, match=str(door.port)):
        await Line.to(door, FRONT)


async def test_a_stranger_is_not_heard() -> None:
    worker = Worker()
    async with listening(worker) as door:
        line = await Line.to(replace(door, key=bytes(16)), FRONT)
        with pytest.raises(WorkerLostError):
            await line.call(b"code", b"")
        assert not worker.heard
        assert door.key.hex() not in repr(door)
        assert str(door.key) not in repr(door)


async def test_a_front_may_leave_while_the_worker_answers() -> None:
    worker = Worker()
    async with listening(worker) as door:
        line = await Line.to(door, FRONT)
        call = asyncio.create_task(line.call(b"wait", b""))
        await heard(worker, 1)
        line.close()
        with pytest.raises(WorkerLostError):
            await call
        worker.may_answer.set()
        again = await Line.to(door, FRONT)
        assert await again.call(b"next", b"") == b"next"
        again.close()
