"""One worker as a Ray actor, as one front sees it, and what every call to it goes through."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog

from ...domain.errors import ModelLoadError, ServiceError
from .line import Door, Line
from .payload import packed, unpacked_outcomes
from .workers import Outcome, Window, WorkerLostError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_LEAVE_S = 5.0
"""How long a worker may take to hear that this front leaves; it finds out itself later."""


class RayWorker:
    """One actor, as one front sees it."""

    def __init__(self, actor: Any, front: str, held: "set[RayWorker]") -> None:
        """Talk to `actor` in the name of `front`; `held` are the workers of that front."""
        self._actor = actor
        self._front = front
        self._held = held
        self._line: Line | None = None
        self.is_up = False  # once its engine is loaded

    async def connect(self) -> None:
        """Be ready to run windows, once its engine is loaded.

        Raises:
            WorkerLostError: It is dead, or cannot be reached.
        """
        door: Door = await answer(self._actor.door.remote())
        self._line = await Line.to(door, self._front)
        self.is_up = True

    async def run(self, windows: Sequence[Window]) -> Sequence[tuple[int, Outcome]]:
        """See `Worker`."""
        if self._line is None:
            raise RuntimeError("A worker runs windows once it is connected.")
        try:
            outcomes = await self._line.call(*packed(windows))
        except WorkerLostError:
            self._forget()
            raise
        return unpacked_outcomes(outcomes)

    async def hold(self) -> None:
        """Have it live on.

        Raises:
            WorkerLostError: It is dead.
        """
        try:
            await answer(self._actor.hold.remote(self._front))
        except WorkerLostError:
            # A machine that is gone does not end the connection; Ray knows that it is.
            self._forget()
            raise

    def leave(self) -> Any:
        """No longer use it; it ends if nobody else does. Gives the reference of the answer."""
        self._forget()
        return self._actor.leave.remote(self._front)

    async def stop(self) -> None:
        """See `Worker`."""
        try:
            await asyncio.wait_for(answer(self.leave()), _LEAVE_S)
        except WorkerLostError:
            return
        except TimeoutError:
            _log.warning("worker_not_told", after_s=_LEAVE_S)

    async def kill(self) -> None:
        """End it at once, even if it is busy or other front ends use it."""
        self._forget()
        # It asks the head, which may be gone.
        await asyncio.to_thread(partial(the_ray().kill, self._actor, no_restart=True))

    async def pid(self) -> int:
        """The worker's process, on whatever machine."""
        pid: int = await answer(self._actor.pid.remote())
        return pid

    def _forget(self) -> None:
        self._held.discard(self)
        if self._line is not None:
            self._line.close()


async def answer(reference: Any) -> Any:
    """What a call of an actor gives.

    Raises:
        ServiceError: As the actor raised it.
        WorkerLostError: It is dead.
    """
    exceptions = the_ray().exceptions
    try:
        return await reference
    except exceptions.RayTaskError as error:
        cause = error.cause
        # Ours, and not the class that Ray derives from ours.
        raise (cause if isinstance(cause, ServiceError) else RuntimeError(str(error))) from None
    except exceptions.RayError as error:
        raise WorkerLostError(str(error).splitlines()[0]) from error


def the_ray() -> Any:
    """Ray, which takes seconds to import.

    Raises:
        ModelLoadError: It is not installed.
    """
    try:
        import ray  # noqa: PLC0415 - takes seconds, and few have it
    except ImportError as error:
        raise ModelLoadError("CLUSTER=ray needs the extra: pip install 'parakeet-service[ray]'.") from error
    return ray
