"""What the way to workers on Ray costs, and how much of it there can be: workers whose engine reads nothing.

The processor time of each process is what a model of many workers needs; it changes little on a busy machine.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from parakeet_service.adapters.inference.engine import EngineFacts
from parakeet_service.adapters.inference.job_queue import Urgency
from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.inference.model import EngineModel
from parakeet_service.adapters.ray.cluster import Cluster
from parakeet_service.adapters.ray.model import ray_model
from parakeet_service.adapters.ray.pool import WorkerPool
from parakeet_service.adapters.ray.workers import Demand, Outcome, StartedWorker, Window
from parakeet_service.application.ports.metrics import NullMetrics
from parakeet_service.config.logs import configure_logging

from .harness import Service, running_service
from .null_service import NullEngine
from .report import Table
from .speech import RATE_HZ, joined, recordings

_CLIP_S = 10
_MAX_QUEUE = 10_000
"""Nobody is to be turned away."""
_LEAST_AUDIO_S = 600
_MANY = 100
_DECISIONS, _TOGETHER = 10_000, 100
_CLIPS, _BETWEEN_S = 300, 0.02
"""One at a time; meanwhile processes fall asleep, as they do while a model computes."""


@dataclass(frozen=True, slots=True)
class _Used:
    """Processor time, seconds: of the front, of its workers, and of Ray's own processes."""

    front: float
    workers: float
    ray: float

    def __sub__(self, before: "_Used") -> "_Used":
        return _Used(self.front - before.front, self.workers - before.workers, self.ray - before.ray)


def run(
    directory: Path | None,
    workers: Sequence[int],
    at_once: Sequence[int],
    seconds: float,
    sessions: Sequence[int],
    settings: Sequence[str],
) -> None:
    """Print what a decision costs, then for each number of workers what uploads and live sessions cost, by process.

    Args:
        directory: Of recordings; by default the bundled one.
        workers: Numbers of them.
        at_once: Uploads at once.
        seconds: How long each load lasts, and each session speaks.
        sessions: Numbers of live sessions.
        settings: Those that differ from the defaults, as ``NAME=value``.
    """
    asyncio.run(_print_decisions((*workers, _MANY)))
    asyncio.run(_print_added(joined(recordings(directory), at_least_s=_CLIP_S).samples[: _CLIP_S * RATE_HZ]))
    named = {"MAX_QUEUE": str(_MAX_QUEUE), "MAX_STREAMS": str(max(sessions))}
    named |= dict(setting.split("=", 1) for setting in settings)
    table = Table(
        *("workers", "load", "requests/s", "x real time", "calls/s", "windows a call"),
        *("front: CPU ms/s of audio", "workers: the same", "Ray: the same", "window s a s of audio"),
    )
    with tempfile.TemporaryDirectory() as scratch:
        samples = Path(scratch) / "samples.npy"
        np.save(samples, joined(recordings(directory), at_least_s=_LEAST_AUDIO_S).samples)
        for count in workers:
            on_ray = {"CLUSTER": "ray", "CLUSTER_WORKERS": str(count)}
            with running_service("benchmarks.null_service", **on_ray, **named) as service:
                for uploads in at_once:
                    _measure(service, table, count, f"{uploads} of {_CLIP_S} s", _uploads(uploads, seconds, samples))
                for live in sessions:
                    _measure(service, table, count, f"{live} live", _speakers(directory, live, seconds))


class _IdleWorker:
    """Answers at once, in this process."""

    async def run(self, windows: Sequence[Window]) -> Sequence[tuple[int, Outcome]]:
        """See `Worker`."""
        await asyncio.sleep(0)
        return [(window.number, DecodeResult((), (), 0, 0, None)) for window in windows]

    async def stop(self) -> None:
        """See `Worker`."""


class _IdleWorkers:
    """As many as were asked for."""

    def __init__(self, count: int) -> None:
        self._count = count

    async def connect(self) -> None:
        """See `Workers`."""

    async def demand(self) -> Demand:
        """See `Workers`."""
        return Demand(self._count)

    async def start_worker(self, number: int) -> StartedWorker:
        """See `Workers`."""
        del number
        engine = NullEngine(RATE_HZ)
        return StartedWorker(_IdleWorker(), EngineFacts(engine.description, engine.frame_s, engine.can_stream))

    async def aclose(self) -> None:
        """See `Workers`."""


async def _print_decisions(workers: Sequence[int]) -> None:
    """Which window goes to which worker: processor time of the pool alone, without Ray."""
    configure_logging(level="WARNING", log_format="auto")
    table = Table("workers", "windows", "us of CPU a window", "windows/s of one core")
    for count in workers:
        pool = WorkerPool(
            _IdleWorkers(count), NullMetrics(), sample_rate_hz=RATE_HZ, batch_size=1, most_waiting=_MAX_QUEUE
        )
        await pool.start()
        # The others are up in the loop's next turn.
        await asyncio.sleep(0)
        if pool.up < count:
            raise SystemExit(f"{pool.up} of {count} workers are up")
        job = EncoderJob(np.zeros(_CLIP_S * RATE_HZ, np.float32))
        began_s = time.process_time()
        for _ in range(_DECISIONS // _TOGETHER):
            await asyncio.gather(*(pool.submit(job, Urgency.SHORT) for _ in range(_TOGETHER)))
        each_s = (time.process_time() - began_s) / _DECISIONS
        await pool.aclose()
        table.row(str(count), str(_DECISIONS), f"{1e6 * each_s:.0f}", f"{1 / each_s:.0f}")
    print()


async def _print_added(clip: NDArray[np.int16]) -> None:
    """What a worker adds to one clip at a time: the same engine in this process and on Ray, by turns."""
    metrics = NullMetrics()
    make = partial(EngineModel, partial(NullEngine, RATE_HZ), sample_rate_hz=RATE_HZ, batch_size=None, most_streams=1)
    here = make(most_waiting=1)
    there = ray_model(
        partial(make, most_waiting=1),
        Cluster(workers=1),
        sample_rate_hz=RATE_HZ,
        batch_size=None,
        most_waiting=1,
        most_streams=1,
        metrics=metrics,
    )
    await here.start()
    await there.start()
    samples = clip.astype(np.float32) / np.float32(32768)
    taken_s: dict[str, list[float]] = {"here": [], "there": []}
    for _ in range(_CLIPS):
        for name, model in (("here", here), ("there", there)):
            await asyncio.sleep(_BETWEEN_S)
            began = time.perf_counter()
            await model.transcribe(samples)
            taken_s[name].append(time.perf_counter() - began)
    await here.aclose()
    await there.aclose()
    more_ms = [1000 * (there_s - here_s) for here_s, there_s in zip(taken_s["here"], taken_s["there"], strict=True)]
    first, half, _ = statistics.quantiles(more_ms, n=4)
    print(
        f"one clip of {_CLIP_S} s at a time, {_CLIPS} of them: one worker adds {half:.1f} ms (a quarter: {first:.1f} ms)\n"
    )


def _uploads(at_once: int, seconds: float, samples: Path) -> Sequence[str]:
    return ("benchmarks.load", str(samples), str(_CLIP_S), str(_CLIP_S), str(at_once), str(seconds), "1")


def _speakers(directory: Path | None, count: int, seconds: float) -> Sequence[str]:
    return ("benchmarks.live_load", str(directory or ""), str(seconds), str(count), "0", "1", "0", "")


def _measure(service: Service, table: Table, workers: int, name: str, client: Sequence[str]) -> None:
    module, *arguments = client
    load = subprocess.Popen(
        [sys.executable, "-m", module, service.url, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    is_live = name.endswith("live")
    if is_live:
        assert load.stdout is not None
        load.stdout.readline()
    before, used, began = service.metrics(), _used(service), time.monotonic()
    output, _ = load.communicate("go\n" if is_live else None)
    took_s, used, after = time.monotonic() - began, _used(service) - used, service.metrics()
    if load.returncode:
        raise SystemExit(f"{name}: the client failed")
    change = {key: after[key] - before.get(key, 0) for key in after}
    if is_live:
        if errors := json.loads(output)["errors"]:
            raise SystemExit(f"{name}: {errors[0]}")
        requests, audio_s = 0, float(arguments[2]) * float(arguments[1])
    else:
        requests = len(json.loads(output))
        audio_s = float(requests * _CLIP_S)
    calls, windows = change["parakeet_batch_windows_count"], change["parakeet_batch_windows_sum"]
    read_s = change["parakeet_model_audio_seconds_total"]
    table.row(
        *(str(workers), name, f"{requests / took_s:.0f}", f"{audio_s / took_s:.0f}"),
        *(f"{calls / took_s:.0f}", f"{windows / max(calls, 1):.1f}"),
        *(f"{1000 * cpu_s / audio_s:.3f}" for cpu_s in (used.front, used.workers, used.ray)),
        f"{read_s / audio_s:.1f}",
    )


def _used(service: Service) -> _Used:
    workers, ray = 0.0, 0.0
    for process in service.descendants():
        try:
            command, cpu_s = " ".join(process.cmdline()), sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
        if "EngineWorker" in command:
            workers += cpu_s
        else:
            ray += cpu_s
    return _Used(service.own_cpu_s(), workers, ray)
