"""Doing the next of many things while the first of them are still being done."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def in_order(calls: AsyncIterator[Coroutine[Any, Any, T]], *, at_once: int) -> AsyncGenerator[T]:
    """The results of `calls` in their order, while up to `at_once` of them, and of their results, are under way.

    The next call is awaited from `calls` meanwhile, too. What a call raises comes in its place, and ends all that is
    under way; so does leaving, for which this must be closed.
    """
    begun: asyncio.Queue[asyncio.Task[T] | None] = asyncio.Queue()
    room = asyncio.Semaphore(at_once)

    async def begin() -> None:
        try:
            await room.acquire()
            async for call in calls:
                begun.put_nowait(asyncio.create_task(call))
                await room.acquire()
        finally:
            begun.put_nowait(None)

    beginning = asyncio.create_task(begin())
    task: asyncio.Task[T] | None = None
    try:
        while (task := await begun.get()) is not None:
            result = await task
            room.release()
            yield result
        await beginning
    finally:
        beginning.cancel()
        await asyncio.gather(beginning, return_exceptions=True)
        # No more are begun from here on.
        left = [] if task is None else [task]
        while not begun.empty():
            if (waiting := begun.get_nowait()) is not None:
                left.append(waiting)
        for one in left:
            one.cancel()
        await asyncio.gather(*left, return_exceptions=True)
