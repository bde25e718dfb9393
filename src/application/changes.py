"""Waking those who wait for the news of jobs."""

import asyncio


class Changes:
    """Wakes who waits for the news of jobs in this process; those of other servers are found by looking."""

    def __init__(self) -> None:
        """Nothing has changed yet."""
        self._changed = asyncio.Event()

    def announce(self) -> None:
        """Something has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, longest_s: float) -> None:
        """Return once something changes, or after that time."""
        changed = self._changed
        try:
            async with asyncio.timeout(longest_s):
                await changed.wait()
        except TimeoutError:
            return
