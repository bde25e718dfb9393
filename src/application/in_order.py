"""Doing the same with many things, with the next of them while the first are still being done."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
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
        left: list[asyncio.Task[Any]] = [beginning] if task is None else [beginning, task]
        while not begun.empty():
            if (waiting := begun.get_nowait()) is not None:
                left.append(waiting)
        await _end(left)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel them, and wait until they have ended, also if this is cancelled meanwhile: who closes `items` comes next."""
    for task in tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    # Asked for: asyncio would complain of those of which nobody has heard.
    await asyncio.gather(*tasks, return_exceptions=True)
    if cancelled is not None:
        raise cancelled
