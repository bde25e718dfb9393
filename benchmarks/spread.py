"""What the process with the queue before several workers costs, and what more workers bring: pretended GPUs on Ray.

Workers take as long for a batch as an H100, times a factor that leaves two cores time for several of them, and compute
nothing meanwhile. Windows come from processes that do nothing else, so HTTP, decoders and detectors are not in it.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from parakeet_service.adapters.inference.model import EngineModel
from parakeet_service.adapters.isolation.model import IsolatedModel
from parakeet_service.adapters.ray.cluster import Cluster
from parakeet_service.adapters.ray.model import ClusterModel, ray_model
from parakeet_service.application.ports.metrics import ClusterMetrics, NullMetrics
from parakeet_service.config.logs import configure_logging

from .null_service import H100, NullEngine
from .report import Table
from .speech import RATE_HZ
from .spread_load import Told

_quiet = partial(configure_logging, level="WARNING", log_format="auto")
_CLIENTS = 2
_NO_BOUND = 1 << 30


@dataclass(frozen=True, slots=True)
class _Used:
    """Processor time of the process with the queue, of its main thread alone, both in seconds, and its wakeups."""

    cpu_s: float
    main_s: float
    wakeups: int

    @classmethod
    def of(cls, process: psutil.Process) -> "_Used":
        main = next(thread for thread in process.threads() if thread.id == process.pid)
        return cls(
            sum(process.cpu_times()[:2]), main.user_time + main.system_time, process.num_ctx_switches().voluntary
        )


class _Calls(NullMetrics):
    """How many answers workers gave, and how many windows were in them."""

    def __init__(self) -> None:
        self.calls = self.windows = 0
        self._up = 0
        self._told = asyncio.Event()

    async def are_up(self, count: int) -> None:
        """Return once so many workers are."""
        while self._up < count:
            await self._told.wait()
            self._told.clear()

    def workers_changed(self, *, up: int, wanted: int) -> None:
        del wanted
        self._up = up
        self._told.set()

    def batch_read(self, *, size: int, audio_s: float, took_s: float) -> None:
        del audio_s, took_s
        self.calls += 1
        self.windows += size


def _model(workers: int, slower: float, *, metrics: ClusterMetrics) -> ClusterModel:
    make = partial(
        EngineModel,
        partial(NullEngine, RATE_HZ, H100(slower)),
        sample_rate_hz=RATE_HZ,
        batch_size=None,
        most_waiting=_NO_BOUND,
        most_streams=1,
    )
    return ray_model(
        make,
        Cluster(workers=workers),
        sample_rate_hz=RATE_HZ,
        batch_size=None,
        most_waiting=_NO_BOUND,
        most_streams=1 << 14,
        metrics=metrics,
    )


def run(workers: Sequence[int], at_once: Sequence[int], sessions: Sequence[int], seconds: float, slower: float) -> None:
    """Print a line for each number of workers and each load.

    Args:
        workers: Numbers of them.
        at_once: Recordings of one window that each worker has at once: with twice as many workers there are twice as many.
        sessions: Live sessions for each worker, likewise.
        seconds: How long each load lasts.
        slower: How many times as long as an H100 takes a worker takes for a batch.
    """
    _quiet()
    asyncio.run(_run(workers, at_once, sessions, seconds, slower))


async def _run(
    workers: Sequence[int], at_once: Sequence[int], sessions: Sequence[int], seconds: float, slower: float
) -> None:
    table = Table(
        *("workers", "load", "x real time", "answers/s", "windows a call", "waited, median", "95 %", "behind, 95 %"),
        *("CPU ms a window", "main thread", "wakeups a window", "core"),
    )
    for count in workers:
        with tempfile.TemporaryDirectory() as scratch:
            path, metrics = str(Path(scratch) / "model"), _Calls()
            model = IsolatedModel(partial(_model, count, slower), path=path, metrics=metrics, prepare=_quiet)
            await model.start()
            await metrics.are_up(count)
            process = psutil.Process(model.pid)
            for kind, loads in (("files", at_once), ("live", sessions)):
                for load in loads:
                    await asyncio.to_thread(_measure, table, process, metrics, path, count, kind, load, seconds)
            await model.aclose()


def _measure(
    table: Table,
    process: psutil.Process,
    metrics: _Calls,
    path: str,
    workers: int,
    kind: str,
    load: int,
    seconds: float,
) -> None:
    clients = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.spread_load", path, kind),
                *(str(load * workers // _CLIENTS), str(seconds), str(seed)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(_CLIENTS)
    ]
    for client in clients:
        assert client.stdout is not None
        if client.stdout.readline() != "ready\n":
            raise SystemExit("a client did not start")
    before, calls, windows = _Used.of(process), metrics.calls, metrics.windows
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
    told = [Told(**json.loads(client.communicate()[0])) for client in clients]
    after = _Used.of(process)
    calls, windows = metrics.calls - calls, max(metrics.windows - windows, 1)
    waited, behind = (
        np.array([value for one in told for value in getattr(one, name)] or [float("nan")])
        for name in ("waited_s", "behind_s")
    )
    table.row(
        *(str(workers), f"{load * workers} {kind}", f"{sum(one.audio_s for one in told) / seconds:.0f}"),
        *(f"{sum(one.answers for one in told) / seconds:.0f}", f"{windows / max(calls, 1):.1f}"),
        *(f"{np.median(waited):.3f}", f"{np.percentile(waited, 95):.3f}", f"{np.percentile(behind, 95):.2f}"),
        f"{1000 * (after.cpu_s - before.cpu_s) / windows:.2f}",
        f"{1000 * (after.main_s - before.main_s) / windows:.2f}",
        f"{(after.wakeups - before.wakeups) / windows:.1f}",
        f"{(after.cpu_s - before.cpu_s) / seconds:.2f}",
    )
