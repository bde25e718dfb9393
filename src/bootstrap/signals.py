"""SIGTERM and SIGINT, handled in the event loop."""

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handled_signals(handle: Callable[[], None]) -> Generator[None]:
    """Have the event loop call `handle` at SIGTERM and SIGINT; to be entered in the main thread."""
    loop = asyncio.get_running_loop()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(handle)

    # Not the loop's own handlers: Windows has none.
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
