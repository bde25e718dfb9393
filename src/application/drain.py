"""Shutting down politely: finish what runs, refuse new work, then let the servers stop."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

from ..domain.errors import ShuttingDownError
from .run_unless import run_unless

_LAST_WORDS_S = 2.0
"""How long what the grace time cuts off may take to tell its client."""


class Drain:
    """Counts the work in progress, and refuses new work once draining has begun."""

    def __init__(self, *, grace_s: float) -> None:
        """Accept work; `finish` will wait at most `grace_s`."""
        self._grace_s = grace_s
        self._running = 0
        self._begun = asyncio.Event()
        self._over = asyncio.Event()
        self._limits = set[asyncio.Timeout]()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def begun(self) -> bool:
        """Whether new work is refused."""
        return self._begun.is_set()

    @property
    def running(self) -> int:
        """Requests and sessions in progress."""
        return self._running

    async def wait_begun(self) -> None:
        """Return once new work is refused: what would run forever must come to its end then."""
        await self._begun.wait()

    async def wait_over(self) -> None:
        """Return once the grace time is over: what still runs must stop then, and tell its client."""
        await self._over.wait()

    def hurry(self) -> None:
        """End the grace time now."""
        if self._over.is_set():
            return
        self._over.set()
        for limit in self._limits:
            limit.reschedule(0)

    def refusal(self) -> ShuttingDownError:
        """What a client hears that is not served, or not to the end."""
        return ShuttingDownError("The service is shutting down.", retry_after_s=self._grace_s)

    def check_open(self) -> None:
        """Let new work come.

        Raises:
            ShuttingDownError: Draining has begun.
        """
        if self.begun:
            raise self.refusal()

    @contextmanager
    def work(self) -> Generator[None]:
        """Be waited for while in this context.

        Raises:
            ShuttingDownError: Draining has begun.
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

    @asynccontextmanager
    async def bounded_work(self) -> AsyncGenerator[None]:
        """Be waited for while in this context, and cancelled when the grace time is over.

        Raises:
            ShuttingDownError: Draining has begun, or the grace time is over.
        """
        limit = asyncio.timeout(None)
        with self.work():
            try:
                async with limit:
                    self._limits.add(limit)
                    try:
                        yield
                    finally:
                        self._limits.discard(limit)
            except TimeoutError as error:
                if limit.expired():
                    raise self.refusal() from error
                raise

    async def finish(self) -> None:
        """Refuse new work and wait until nothing runs; what runs when the grace time is over is stopped."""
        self._begun.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._grace_s):
                await run_unless(self.wait_over(), self._idle.wait())
        self.hurry()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._idle.wait()
