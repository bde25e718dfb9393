"""What has come of a live session's audio and is not read yet."""

import asyncio
from collections import deque
from enum import Enum, auto

import numpy as np

from ..domain.audio import Samples


class Control(Enum):
    """What may stand between samples."""

    FLUSH = auto()
    PAUSE = auto()
    CLEAR = auto()
    CLOSE = auto()


class AudioQueue:
    """Samples and controls in their order, of bounded length: who enqueues waits for who dequeues."""

    def __init__(self, *, hop: int, longest: int, most: int) -> None:
        """Begin empty.

        Args:
            hop: Samples that are worth taking, unless a control follows them.
            longest: Samples taken at once, at most.
            most: Samples that may wait; a control counts as one.
        """
        self._hop = min(hop, longest, most)
        self._longest = longest
        self._most = most
        self._items: deque[Samples | Control] = deque()
        self._controls = 0
        self._waiting = 0
        # Who enqueues, one after the other; few ever wait for it, and a condition costs everybody several times as much.
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._enough = asyncio.Event()
        self.received = 0
        """Samples that were enqueued so far."""

    async def enqueue(self, item: Samples | Control) -> None:
        """Add samples or a control; waits while too much is there."""
        # Nothing may enter that does not count, or it could grow without end.
        if not isinstance(item, Control) and not len(item):
            return
        if self._waiting >= self._most or self._turn.locked():
            async with self._turn:
                while self._waiting >= self._most:
                    self._room.clear()
                    await self._room.wait()
                self._add(item)
        else:
            self._add(item)

    def _add(self, item: Samples | Control) -> None:
        self._items.append(item)
        if isinstance(item, Control):
            self._controls += 1
            self._waiting += 1
        else:
            self._waiting += len(item)
            self.received += len(item)
        if self._has_enough:
            self._enough.set()

    async def dequeue(self) -> Samples | Control:
        """The next control, or the samples before it, as many as may be taken at once; waits for a hop of them."""
        while not self._has_enough:
            self._enough.clear()
            await self._enough.wait()
        item = self._items[0]
        if isinstance(item, Control):
            self._items.popleft()
            self._controls -= 1
            self._waiting -= 1
        else:
            item = self._samples()
            self._waiting -= len(item)
        self._room.set()
        return item

    @property
    def _has_enough(self) -> bool:
        return self._controls > 0 or self._waiting >= self._hop

    def _samples(self) -> Samples:
        taken: list[Samples] = []
        room = self._longest
        while room and self._items and not isinstance(item := self._items[0], Control):
            taken.append(item[:room])
            if len(item) > room:
                self._items[0] = item[room:]
            else:
                self._items.popleft()
            room -= len(taken[-1])
        return taken[0] if len(taken) == 1 else np.concatenate(taken)
