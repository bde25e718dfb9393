"""What runs inside a Ray actor: one engine, and the scheduler that batches for it."""

import asyncio
import importlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..inference.engine import EngineFacts
from ..inference.model import EngineModel
from .desk import Desk
from .line import Door, listen
from .payload import packed_outcomes, unpacked

MakeEngine: TypeAlias = Callable[[], EngineModel]
"""Makes a model that is not loaded yet. A queue without a bound suits it: the pool's has one."""


HOLD_EVERY_S = 5.0
"""How often a front tells its workers that it is there."""
_LEASE_S = 60.0
"""A front that was not heard for so long is gone."""
_LAST_ANSWER_S = 0.2
"""Between the answer to the last front and the end, so that the answer arrives."""


class EngineWorker:
    """Loads an engine, and runs jobs on it, those of several calls and of several fronts at once.

    It ends itself once no front holds it: one that was killed cannot end it.
    """

    def __init__(self) -> None:
        """Begin without an engine."""
        self._heard: dict[str, float] = {}
        self._desks: dict[str, Desk] = {}
        self._loading: asyncio.Task[EngineModel] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[tuple[asyncio.Server, Door]] | None = None

    async def start(self, front: str, make: MakeEngine, cores: Sequence[int]) -> EngineFacts:
        """Load the engine for the first front that asks; all others wait for the same.

        Args:
            front: Who asks, and holds this worker from now on.
            make: Makes it.
            cores: The cores that this process may use; empty for all.

        Raises:
            ModelLoadError: It cannot be loaded.
        """
        self._heard[front] = time.monotonic()
        if self._loading is None:
            self._loading = asyncio.create_task(_loaded(make, cores))
            self._watching = asyncio.create_task(self._end_when_alone())
        # One front that leaves meanwhile takes the engine from no other.
        return (await asyncio.shield(self._loading)).facts()

    async def hold(self, front: str) -> None:
        """The front is still there."""
        self._heard[front] = time.monotonic()

    async def leave(self, front: str) -> None:
        """The front is gone; what it has not been answered is no longer wanted. The last one ends this process."""
        self._heard.pop(front, None)
        self._desks.pop(front, None)
        asyncio.get_running_loop().call_later(_LAST_ANSWER_S, self._end_if_alone)

    async def run(self, front: str, head: bytes, sound: bytes) -> bytes:
        """See `Worker`; what it takes and gives is packed.

        Args:
            front: Whose windows these are.
            head: See `packed`.
            sound: Likewise.
        """
        if self._loading is None:
            raise RuntimeError("A worker runs jobs once it was started.")
        model = await self._loading
        desk = self._desks.setdefault(front, Desk())
        return packed_outcomes(await desk.run(model, unpacked(head, sound)))

    async def door(self) -> Door:
        """Where fronts connect that have windows for it."""
        if self._listening is None:
            # It is there where this is an actor.
            ray: Any = importlib.import_module("ray")
            self._listening = asyncio.create_task(listen(ray.util.get_node_ip_address(), self.run))
        return (await asyncio.shield(self._listening))[1]

    async def pid(self) -> int:
        """The process."""
        return os.getpid()

    async def machine(self) -> str:
        """The machine, by its name in the cluster."""
        # It is there where this is an actor.
        ray: Any = importlib.import_module("ray")
        name: str = ray.get_runtime_context().get_node_id()
        return name

    async def _end_when_alone(self) -> None:
        while True:
            await asyncio.sleep(HOLD_EVERY_S)
            oldest = time.monotonic() - _LEASE_S
            self._heard = {front: at for front, at in self._heard.items() if at > oldest}
            # One that was thought gone may come back for what it gave.
            self._desks = {
                front: desk for front, desk in self._desks.items() if front in self._heard or not desk.is_empty
            }
            self._end_if_alone()

    def _end_if_alone(self) -> None:
        if not self._heard:
            os._exit(0)


async def _loaded(make: MakeEngine, cores: Sequence[int]) -> EngineModel:
    if cores:
        # Before the engine counts them.
        os.sched_setaffinity(0, cores)
    model = make()
    await model.start()
    return model
