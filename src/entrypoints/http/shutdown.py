"""Draining under uvicorn: its signals must wait until work in progress is finished."""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

import structlog
import uvicorn

from ...application.drain import Drain

_Handler: TypeAlias = Callable[[int, FrameType | None], object]
_CLOSING_S = 5
"""What connections get to close once nothing runs any more; a peer that reads nothing would take for ever."""

_log = structlog.stdlib.get_logger(__name__)


@contextmanager
def drain_on_signals(drain: Drain, *, has_failed: Callable[[], bool]) -> Generator[None]:
    """Put the drain before what SIGTERM and SIGINT did so far; a second signal ends its grace time, a third all of it.

    SIGHUP, which ends a process whose terminal is closed, is as good as they are, unless somebody had it ignored.

    uvicorn closes its WebSockets the moment it gets the signal, before the application hears of it; so the
    application must hear first. Only the main thread may handle signals: elsewhere nothing is changed.

    Args:
        drain: What to finish.
        has_failed: Whether the service stops because it cannot serve: then uvicorn exits with 3, as if it had not started.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[int, _Handler] = {}
    tasks: set[asyncio.Task[None]] = set()

    async def drain_then(number: int) -> None:
        _log.info("draining", running=drain.running)
        await drain.finish()
        _log.info("drained", running=drain.running)
        _stop_server(before[number], number)

    def begin(number: int) -> None:
        task = loop.create_task(drain_then(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    signals = 0

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal signals
        if signals == 1 and not drain.begun:
            # Two at one moment, such as from a service manager and from the process that started this one, are one.
            return
        signals += 1
        match signals:
            case 1:
                loop.call_soon_threadsafe(begin, number)
            case 2:
                loop.call_soon_threadsafe(drain.hurry)
            case _:
                _stop_server(before[number], number, force=True)

    server = running_server()
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            before[number] = handler
            signal.signal(number, handle)
    # Windows has none.
    if server is not None and hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        before[signal.SIGHUP] = server.handle_exit
        signal.signal(signal.SIGHUP, handle)
    try:
        yield
    finally:
        for caught, handler in before.items():
            if signal.getsignal(caught) is handle:
                signal.signal(caught, handler if caught in (signal.SIGTERM, signal.SIGINT) else signal.SIG_DFL)
        if has_failed() and server is not None:
            # What uvicorn's own command looks at, once all is closed, to choose its exit code.
            server.started = False


def running_server() -> uvicorn.Server | None:
    """The uvicorn that runs in the main thread, if it does; to be asked for before its signals are drained."""
    return _server_of(signal.getsignal(signal.SIGTERM))


def _server_of(handler: object) -> uvicorn.Server | None:
    server = getattr(handler, "__self__", None)
    return server if isinstance(server, uvicorn.Server) else None


def _stop_server(handler: _Handler, number: int, *, force: bool = False) -> None:
    server = _server_of(handler)
    if server is None:
        handler(number, None)
        return
    if server.config.timeout_graceful_shutdown is None:
        server.config.timeout_graceful_shutdown = _CLOSING_S
    # Its handler would raise the signal again at the end, and the process die of it instead of exiting with a code.
    server.should_exit = True
    server.force_exit = force
