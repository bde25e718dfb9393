"""Workers as Ray actors. Ray itself is imported once something is started: that takes seconds."""

import asyncio
import hashlib
import logging
import os
import secrets
import signal
import threading
from collections.abc import Collection, Generator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import structlog

from ...domain.errors import ModelLoadError
from ..inference.cores import usable_cores
from ..inference.engine import EngineFacts
from ..inference.model import EngineModel
from .actor import RayWorker, answer, the_ray
from .local_ray import LocalRay, is_here
from .worker import HOLD_EVERY_S, EngineWorker
from .workers import Demand, StartedWorker, Worker, WorkerLostError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_MOST_CALLS = 64
"""That a worker answers at once; the pool of one front gives it far fewer."""
_HANGS_S = 60.0
"""A worker that is up and gives no sign of life for so long is killed, as a model's own process is."""
_SHARE_OF_A_CORE = 0.001
"""So that no worker is on a node that was started without cores; otherwise Ray does not count them here."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where workers run.

    Attributes:
        address: Of a Ray cluster; empty for one on this machine that lives as long as this process.
        token: That all its nodes share; ``None``: a random one on this machine, Ray's own settings elsewhere.
        workers: How many; ``None``: one for each GPU, or on CPUs one for each machine.
        on_gpus: Whether the engine computes on a GPU: each worker gets one of its own.
    """

    address: str = ""
    token: str | None = None
    workers: int | None = None
    on_gpus: bool = False


class RayWorkers:
    """The workers of a Ray cluster; see `Workers`.

    Fronts with the same recipe share them: a worker has a name, made of the recipe and its place, and Ray gives the one
    that has the name already, or starts it. So each front replaces a worker that died, and there is one replacement.
    """

    def __init__(self, make: "partial[EngineModel]", cluster: Cluster) -> None:
        """Remember what workers run, and where."""
        self._make = make
        self._cluster = cluster
        self._front = secrets.token_hex(8)
        self._held: set[RayWorker] = set()
        self._lost: set[Worker] = set()
        self._telling: dict[RayWorker, asyncio.Task[None]] = {}
        self._holding: asyncio.Task[None] | None = None
        self._local: LocalRay | None = None
        self._recipe: Any = None

    async def connect(self) -> None:
        """See `Workers`; starts Ray on this machine unless there is an address of this machine."""
        cluster = self._cluster
        if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true"):
            raise ModelLoadError(
                "RAY_USE_TLS would not encrypt the audio that goes to workers: unset it, or use a VPN."
            )
        for name, value in _environment(cluster).items():
            os.environ[name] = value
        address = cluster.address
        if not address:
            self._local = LocalRay()
            address = await self._local.start(cluster.token, cores=usable_cores())
        elif not await asyncio.to_thread(is_here, address):
            # Whoever calls workers must be on a node of their cluster.
            self._local = LocalRay()
            await self._local.join(address)
        try:
            # Ray's import and start take over what belongs to the service.
            with _kept_logging():
                await asyncio.to_thread(self._connect, address)
            _take_signals_back()
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ModelLoadError(f"The Ray cluster at {address} cannot be used: {error}") from error
        self._holding = asyncio.create_task(self._hold())

    def _connect(self, address: str) -> None:
        ray = the_ray()
        ray.init(address, log_to_driver=False, configure_logging=False, namespace="parakeet-service")
        # Sent once to each node, not with each worker.
        self._recipe = ray.put(self._make)

    async def demand(self) -> Demand:
        """See `Workers`."""
        leaving = await asyncio.to_thread(_leaving)
        count = await self._wanted(leaving)
        lost, self._lost = self._lost, set()
        return Demand(count, leaving, lost)

    async def _wanted(self, leaving: Collection[str]) -> int:
        if self._cluster.workers is not None:
            return self._cluster.workers
        nodes = [node for node in await asyncio.to_thread(the_ray().nodes) if node["Alive"]]
        staying = [node for node in nodes if node["NodeID"] not in leaving]
        if self._cluster.on_gpus:
            gpus: float = sum(node["Resources"].get("GPU", 0) for node in staying)
            return max(round(gpus), 1)
        # Those of services have no cores.
        with_cores = [node for node in staying if node["Resources"].get("CPU", 0)]
        return max(len(with_cores), 1)

    async def start_worker(self, number: int) -> StartedWorker:
        """See `Workers`."""
        # It asks the head, which may be gone.
        creating = asyncio.create_task(asyncio.to_thread(self._actor, number))
        try:
            actor = await asyncio.shield(creating)
        except asyncio.CancelledError:
            RayWorker(await creating, self._front, self._held).leave()
            raise
        worker = RayWorker(actor, self._front, self._held)
        # From now on: to load may take longer than a worker waits for word of its fronts.
        self._held.add(worker)
        try:
            facts: EngineFacts = await answer(actor.start.remote(self._front, self._recipe, self._cores(number)))
            machine: str = await answer(actor.machine.remote())
            leaving = await asyncio.to_thread(_leaving)
            if machine not in leaving:
                await worker.connect()
        except (ModelLoadError, RuntimeError):
            # Whoever tries again must find a new one.
            self._held.discard(worker)
            the_ray().kill(actor, no_restart=True)
            raise
        except WorkerLostError:
            self._held.discard(worker)
            raise
        except asyncio.CancelledError:
            worker.leave()
            raise
        if machine in leaving:
            # The one of that name, until the last front has left it; then there is another one elsewhere.
            worker.leave()
            raise WorkerLostError("Its machine is leaving.")
        return StartedWorker(worker, facts, machine)

    def _actor(self, number: int) -> Any:
        return (
            the_ray()
            .remote(EngineWorker)
            .options(
                name=f"worker-{number}-{fingerprint(self._make)}",
                get_if_exists=True,
                # It outlives the front that started it, for others use it; `EngineWorker` ends itself.
                lifetime="detached",
                num_cpus=0 if self._cluster.on_gpus else _SHARE_OF_A_CORE,
                num_gpus=1 if self._cluster.on_gpus else 0,
                # The pools start another one themselves, and know at once that this one is gone.
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=_MOST_CALLS,
                scheduling_strategy="SPREAD",
            )
            .remote()
        )

    async def _hold(self) -> None:
        """Tell workers that this front is there, and find out which have died while they had nothing to do."""
        while True:
            await asyncio.sleep(HOLD_EVERY_S)
            for worker in self._held - self._telling.keys():
                # One whose machine does not answer must not keep the others waiting.
                self._telling[worker] = asyncio.create_task(self._tell(worker))
                self._telling[worker].add_done_callback(partial(self._told, worker))

    def _told(self, worker: RayWorker, _task: "asyncio.Task[None]") -> None:
        del self._telling[worker]

    async def _tell(self, worker: "RayWorker") -> None:
        try:
            # Loading may keep it from answering.
            async with asyncio.timeout(_HANGS_S if worker.is_up else None):
                await worker.hold()
        except WorkerLostError:
            self._lost.add(worker)
        except TimeoutError:
            _log.error("worker_hangs", after_s=_HANGS_S)
            self._lost.add(worker)
            await worker.kill()

    def _cores(self, number: int) -> Sequence[int]:
        """The share of this machine's cores; elsewhere a worker has its machine."""
        workers = self._cluster.workers or 1
        if self._cluster.address or self._cluster.on_gpus or workers == 1 or not hasattr(os, "sched_getaffinity"):
            return ()
        cores = sorted(os.sched_getaffinity(0))
        share = max(len(cores) // workers, 1)
        first = number * share % len(cores)
        return cores[first : first + share]

    async def aclose(self) -> None:
        """See `Workers`; a cluster that was here before stays, with the workers that other fronts use."""
        if self._holding is not None:
            self._holding.cancel()
        for telling in self._telling.values():
            telling.cancel()
        if the_ray().is_initialized():
            await asyncio.to_thread(the_ray().shutdown)
        if self._local is not None:
            await self._local.aclose()
            self._local = None


def fingerprint(make: "partial[EngineModel]") -> str:
    """The same for fronts whose workers would be the same: version, engine, and every setting of it."""
    recipe = (version("parakeet-service"), make.func.__qualname__, make.args, sorted(make.keywords.items()))
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]


def _environment(cluster: Cluster) -> dict[str, str]:
    """What Ray reads when it is imported, and hands on to what it starts."""
    values = {"RAY_USAGE_STATS_ENABLED": "0"}
    # Nobody reads the head's list of all calls.
    values["RAY_task_events_report_interval_ms"] = "0"
    if cluster.token is not None:
        values |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": cluster.token}
    return values


def _leaving() -> Set[str]:
    """The machines that were told to end: SIGTERM to `ray start`, or `ray drain-node`."""
    # Not a public interface; Ray Serve uses it for the same purpose, and `ray.nodes` does not tell.
    return set(the_ray()._private.state.state.get_draining_nodes())


@contextmanager
def _kept_logging() -> Generator[None]:
    """Undo that Ray puts a field of its own into every log record of the process."""
    before = logging.getLogRecordFactory()
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


def _take_signals_back() -> None:
    """Have Python handle SIGTERM as before: Ray's handler writes a stack trace, and aborts at the second signal."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        if (handler := signal.getsignal(number)) is not None:
            signal.signal(number, handler)
