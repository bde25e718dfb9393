"""Workers on Ray: what one costs against the engine in the service's process, and what more of them bring."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx2
import numpy as np
import psutil

from . import live, service
from .harness import Service, model_directory, running_service
from .report import Table
from .speech import RATE_HZ, Recording, joined, recordings

_CLIP_S = 10
_LOSS_S = 20.0


def run(
    directory: Path | None,
    model: str,
    workers: Sequence[int],
    rounds: int,
    at_once: Sequence[int],
    seconds: float,
    settings: Sequence[str],
    sessions: Sequence[int],
    *,
    find_limit: bool,
) -> None:
    """Print the overhead of one worker, then throughput, live sessions and the loss of a worker for each number.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        workers: Numbers of them; ratios are to the first.
        rounds: How often each has its turn for the overhead.
        at_once: Uploads at once, of 2 to 30 s.
        seconds: How long each load lasts, and each session speaks.
        settings: Those that differ from the defaults, as ``NAME=value``.
        sessions: Numbers of live sessions.
        find_limit: Whether to find out how many sessions there may be, which takes long.
    """
    with tempfile.TemporaryDirectory() as scratch:
        model_id = model_directory(model, Path(scratch))
        said = joined(recordings(directory), at_least_s=600)
        samples = Path(scratch) / "samples.npy"
        np.save(samples, said.samples)
        _print_overhead(model_id, Recording("clip", said.samples[: _CLIP_S * RATE_HZ], None).wav, rounds, settings)
        speeds: dict[int, dict[str, float]] = {}
        for count in workers:
            on_ray = [*settings, "CLUSTER=ray", f"CLUSTER_WORKERS={count}"]
            print(f"\n{count} workers", flush=True)
            speeds[count] = service.speeds(directory, model_id, at_once, seconds, on_ray, only="of 2 to 30 s")
            chart = live.run(
                directory, model_id, sessions, seconds, None, find_limit=find_limit, pauses=False, settings=on_ray
            )
            if find_limit:
                speeds[count]["live sessions"] = live.most_sessions(chart)
            if count > 1:
                _print_loss(model_id, on_ray, samples, max(at_once))
        _print_ratios(speeds)


def _print_ratios(speeds: dict[int, dict[str, float]]) -> None:
    first, *others = speeds
    table = Table("times those of the first", *(f"{count} workers" for count in others))
    for name, alone in speeds[first].items():
        table.row(name, *(f"{speeds[count][name] / alone:.2f}" for count in others))


def _print_overhead(model_id: str, clip: bytes, rounds: int, settings: Sequence[str]) -> None:
    named = dict(setting.split("=", 1) for setting in settings)
    with ExitStack() as stack:
        services = {
            name: stack.enter_context(running_service(MODEL_ID=model_id, JOBS="off", **changed, **named))
            for name, changed in {"none": {}, "ray": {"CLUSTER": "ray", "CLUSTER_WORKERS": "1"}}.items()
        }
        taken_s = asyncio.run(_by_turns(services, clip, rounds))
    more_ms = sorted(1000 * (ray - none) for none, ray in zip(taken_s["none"], taken_s["ray"], strict=True))
    print(
        f"{_CLIP_S} s clip, {rounds} rounds: median {1000 * statistics.median(taken_s['none']):.1f} ms in the process, "
        f"{1000 * statistics.median(taken_s['ray']):.1f} ms with one worker on Ray; "
        f"median of the differences {statistics.median(more_ms):.1f} ms; "
        f"best {1000 * min(taken_s['none']):.1f} and {1000 * min(taken_s['ray']):.1f} ms",
        flush=True,
    )


async def _by_turns(services: dict[str, Service], clip: bytes, rounds: int) -> dict[str, list[float]]:
    taken_s: dict[str, list[float]] = {name: [] for name in services}
    async with httpx2.AsyncClient(timeout=600) as client:
        for number in range(-3, rounds):
            for name in sorted(services, reverse=bool(number % 2)):
                began = time.perf_counter()
                await services[name].transcribe(client, clip)
                # The first ones compile.
                if number >= 0:
                    taken_s[name].append(time.perf_counter() - began)
    return taken_s


def _print_loss(model_id: str, settings: Sequence[str], samples: Path, at_once: int) -> None:
    """Kill a worker in the middle of a load: every answer must come."""
    named = dict(setting.split("=", 1) for setting in settings)
    with running_service(MODEL_ID=model_id, **named) as loaded:
        client = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.load", loaded.url, str(samples)),
                *("2", "30", str(at_once), str(_LOSS_S), "1"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(_LOSS_S / 2)
        _worker(loaded).kill()
        killed = time.monotonic()
        # One that was idle is missed when it is asked for something.
        while loaded.metrics()["parakeet_cluster_workers_lost_total"] < 1 or not loaded.is_complete():
            time.sleep(0.05)
        whole_s = time.monotonic() - killed
        client.communicate()
        if client.returncode:
            raise SystemExit("a request failed when a worker was killed")
        print(f"kill -9 of a worker under {at_once} uploads: no request failed; all workers up after {whole_s:.1f} s")


def _worker(loaded: Service) -> psutil.Process:
    return next(process for process in loaded.descendants() if "EngineWorker" in " ".join(process.cmdline()))
