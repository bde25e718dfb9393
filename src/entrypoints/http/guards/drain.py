"""Going away politely: finish what runs, take nothing new, then let the server stop."""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeAlias

import structlog
import uvicorn

from ....domain.errors import ShuttingDownError

_Handler: TypeAlias = Callable[[int, FrameType | None], object]
_CLOSING_S = 5
"""What connections get to close once nothing runs any more; a peer that reads nothing would take for ever."""

_log = structlog.stdlib.get_logger(__name__)


class Drain:
    """Counts what runs, and turns away what comes once the end has begun."""

    def __init__(self, *, grace_s: float) -> None:
        """Be open for work; `finish` will wait at most `grace_s`."""
        self._grace_s = grace_s
        self._running = 0
        self._begun = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.failed = False
        """Whether the service goes away because it cannot serve: then uvicorn exits with 3, as if it had not started."""

    @property
    def begun(self) -> bool:
        """Whether new work is refused."""
        return self._begun.is_set()

    async def wait_begun(self) -> None:
        """Return once new work is refused: what would run for ever must come to its end then."""
        await self._begun.wait()

    def check_open(self) -> None:
        """Let new work come.

        Raises:
            ShuttingDownError: The end has begun.
        """
        if self.begun:
            raise ShuttingDownError("The service is shutting down.", retry_after_s=self._grace_s)

    @contextmanager
    def work(self) -> Generator[None]:
        """Be waited for while in this context.

        Raises:
            ShuttingDownError: The end has begun.
        """
        self.check_open()
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def finish(self) -> None:
        """Refuse new work and wait until nothing runs, or until the grace time is over."""
        self._begun.set()
        _log.info("draining", running=self._running)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self._grace_s)
        _log.info("drained", running=self._running)


@contextmanager
def drain_on_signals(drain: Drain) -> Generator[None]:
    """Put the drain before what SIGTERM and SIGINT did so far; a second signal does that at once.

    uvicorn closes its WebSockets the moment it gets the signal, before the application hears of it; so the
    application must hear first. Only the main thread may handle signals: elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[int, _Handler] = {}
    tasks: set[asyncio.Task[None]] = set()

    async def drain_then(number: int) -> None:
        await drain.finish()
        _stop_server(before[number], number)

    def begin(number: int) -> None:
        task = loop.create_task(drain_then(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    signalled = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal signalled
        if signalled:
            before[number](number, frame)
            return
        signalled = True
        loop.call_soon_threadsafe(begin, number)

    server = running_server()
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            before[number] = handler
            signal.signal(number, handle)
    try:
        yield
    finally:
        for caught, handler in before.items():
            if signal.getsignal(caught) is handle:
                signal.signal(caught, handler)
        if drain.failed and server is not None:
            # What uvicorn's own command looks at, once all is closed, to choose its exit code.
            server.started = False


def running_server() -> uvicorn.Server | None:
    """The uvicorn that runs in the main thread, if it does; to be asked for before its signals are drained."""
    return _server_of(signal.getsignal(signal.SIGTERM))


def _server_of(handler: object) -> uvicorn.Server | None:
    server = getattr(handler, "__self__", None)
    return server if isinstance(server, uvicorn.Server) else None


def _stop_server(handler: _Handler, number: int) -> None:
    server = _server_of(handler)
    if server is None:
        handler(number, None)
        return
    if server.config.timeout_graceful_shutdown is None:
        server.config.timeout_graceful_shutdown = _CLOSING_S
    # Its handler would raise the signal again at the end, and the process die of it instead of exiting with a code.
    server.should_exit = True
