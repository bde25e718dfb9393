"""Work that ends early when there is no point in it any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def run_unless(stopped: Coroutine[Any, Any, object], work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` gives; ``None``, and `work` cancelled, if `stopped` ends before it."""
    stopping = asyncio.create_task(stopped)
    working = asyncio.create_task(work)
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        stopping.result()
        return None
    finally:
        working.cancel()
        stopping.cancel()
        # Waits for the cancelled work to let go of what it holds, and reads an error that nobody else will.
        await asyncio.gather(working, stopping, return_exceptions=True)


async def all_of(*work: Coroutine[Any, Any, object]) -> None:
    """Run `work` side by side until all of it has ended; where one fails, the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def first_of(*work: Coroutine[Any, Any, object]) -> None:
    """Run `work` side by side until one of it ends or fails; the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
