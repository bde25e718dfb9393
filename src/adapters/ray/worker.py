"""What runs inside a Ray actor: one engine, and the scheduler that batches for it. Imports no Ray."""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ...domain.errors import ServiceError
from ..inference.engine import EngineFacts
from ..inference.job_queue import Urgency
from ..inference.jobs import DecodeResult, EncoderJob
from ..inference.model import EngineModel

MakeEngine: TypeAlias = Callable[[], EngineModel]
"""Makes a model that is not loaded yet. A queue without a bound suits it: the pool's has one."""


class EngineWorker:
    """Loads an engine, and runs jobs on it, those of several calls at once."""

    async def start(self, make: MakeEngine, cores: Sequence[int]) -> EngineFacts:
        """Load the engine.

        Args:
            make: Makes it.
            cores: The cores that this process may use; empty for all.

        Raises:
            ModelLoadError: It cannot be loaded.
        """
        if cores:
            # Before the engine counts them.
            os.sched_setaffinity(0, cores)
        self._model = make()
        await self._model.start()
        return self._model.facts()

    async def run(self, jobs: Sequence[EncoderJob], urgency: Urgency) -> list[DecodeResult | ServiceError]:
        """See `Worker`."""
        results = await asyncio.gather(*(self._model.run(job, urgency) for job in jobs), return_exceptions=True)
        return [_sendable(result) for result in results]

    async def pid(self) -> int:
        """The process."""
        return os.getpid()


def _sendable(result: DecodeResult | BaseException) -> DecodeResult | ServiceError:
    if isinstance(result, DecodeResult | ServiceError):
        return result
    raise result
