"""Doing the same with many things, with the next of them while the first are still being done."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def in_order(
    items: AsyncIterator[Item], call: Callable[[Item], Coroutine[Any, Any, Result]], *, at_once: int
) -> AsyncGenerator[Result]:
    """What `call` gives for each of `items`, in their order, while up to `at_once` calls and results are under way.

    Beside those, the next item is fetched. An error comes in its place, and ends all that is under way; so does leaving,
    for which this must be closed.
    """
    begun: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue()
    room = asyncio.Semaphore(at_once)

    async def begin() -> None:
        try:
            async for item in items:
                await room.acquire()
                begun.put_nowait(asyncio.create_task(call(item)))
        finally:
            begun.put_nowait(None)

    beginning = asyncio.create_task(begin())
    task: asyncio.Task[Result] | None = None
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
