"""Shutting down politely: finish what runs, refuse new work, then let the servers stop."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress

from ..domain.errors import ShuttingDownError


class Drain:
    """Counts the work in progress, and refuses new work once draining has begun."""

    def __init__(self, *, grace_s: float) -> None:
        """Accept work; `finish` will wait at most `grace_s`."""
        self._grace_s = grace_s
        self._running = 0
        self._begun = asyncio.Event()
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

    def check_open(self) -> None:
        """Let new work come.

        Raises:
            ShuttingDownError: Draining has begun.
        """
        if self.begun:
            raise ShuttingDownError("The service is shutting down.", retry_after_s=self._grace_s)

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

    async def finish(self) -> None:
        """Refuse new work and wait until nothing runs, or until the grace time is over."""
        self._begun.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self._grace_s)
