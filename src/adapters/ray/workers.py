"""What the pool needs of whatever starts workers and talks to them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ...domain.errors import ServiceError
from ..inference.engine import EngineFacts
from ..inference.job_queue import Urgency
from ..inference.jobs import DecodeResult, EncoderJob


class WorkerLostError(Exception):
    """A worker died, or its machine did; what it was running must run elsewhere."""


@dataclass(frozen=True, slots=True)
class Window:
    """A job on its way to a worker; its number is its own among all that the worker has for this front."""

    number: int
    job: EncoderJob
    urgency: Urgency


Outcome: TypeAlias = DecodeResult | ServiceError
"""What a worker gives for a window."""


class Worker(Protocol):
    """One process with one loaded engine."""

    async def run(self, windows: Sequence[Window]) -> Sequence[tuple[int, Outcome]]:
        """Add windows to those that it has, and wait for news.

        It runs them in batches as suit the engine, the most urgent of all that it has first. One call waits at a time: it
        is answered as soon as a batch has ended, or when another call comes. Whoever waits for windows must have a call
        with the worker, be it one that brings nothing.

        Returns:
            Outcomes that no call has been answered with yet, by number, whichever call brought the windows; be it none.

        Raises:
            WorkerLostError: It is dead.
        """
        ...

    async def stop(self) -> None:
        """Use it no longer: it ends, unless another front uses it. What it runs for this one is lost."""
        ...


@dataclass(frozen=True, slots=True)
class StartedWorker:
    """A worker that is ready, the facts of its engine, and the machine that it is on, by its name in the cluster."""

    worker: Worker
    facts: EngineFacts
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the cluster asks for now.

    Attributes:
        workers: How many there should be.
        leaving: Machines that will end soon: their workers finish what they have, and get nothing new.
        lost: Workers that were found dead since this was last asked; of those that run something their callers know, too.
    """

    workers: int
    leaving: Collection[str] = ()
    lost: Collection[Worker] = ()


class Workers(Protocol):
    """Starts workers."""

    async def connect(self) -> None:
        """Be ready to start workers.

        Raises:
            ModelLoadError: The cluster cannot be started or reached.
        """
        ...

    async def demand(self) -> Demand:
        """What there should be now; changes as machines join and leave."""
        ...

    async def start_worker(self, number: int) -> StartedWorker:
        """Start a worker, or take the one that another front started, and wait until its engine is loaded.

        Args:
            number: Its place, from 0; no two that live have the same.

        Raises:
            ModelLoadError: The model cannot be loaded.
            WorkerLostError: It died meanwhile, or its machine is leaving.
        """
        ...

    async def aclose(self) -> None:
        """End everything that was started and that no other front uses."""
        ...
