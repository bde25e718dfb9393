"""What the model in a process of its own costs: two services, with and without, asked by turns."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import httpx2
import numpy as np

from .harness import Service, running_service
from .speech import RATE_HZ, Recording, joined, recordings

_Measure: TypeAlias = Callable[[Service], Awaitable[tuple[float, float]]]
"""Gives the seconds that passed and the seconds of CPU that the service used."""
_ROUNDS = 20
_AT_ONCE = 8
_THREADS = "1"
"""Of OpenBLAS, whose threads wait by spinning: where others use the cores, too, they would measure those."""


def run(directory: Path | None) -> None:
    """Print latencies, throughput and memory with and without, and their ratios."""
    with (
        running_service(ISOLATION="none", OPENBLAS_NUM_THREADS=_THREADS) as none,
        running_service(ISOLATION="process", OPENBLAS_NUM_THREADS=_THREADS) as process,
    ):
        asyncio.run(_run({"none": none, "process": process}, joined(recordings(directory), at_least_s=10)))


async def _run(services: Mapping[str, Service], speech: Recording) -> None:
    def clip(seconds: int) -> bytes:
        return Recording("clip", speech.samples[: seconds * RATE_HZ], None).wav

    silence = Recording("silence", np.zeros(10 * RATE_HZ, np.int16), None).wav
    async with httpx2.AsyncClient(timeout=600) as client:

        def upload(content: bytes, *, times: int = 1) -> _Measure:
            async def measure(service: Service) -> tuple[float, float]:
                began, before_s = time.perf_counter(), service.cpu_s()
                await asyncio.gather(*(service.transcribe(client, content) for _ in range(times)))
                return time.perf_counter() - began, service.cpu_s() - before_s

            return measure

        idle = {name: service.resident_mb() for name, service in services.items()}
        await _compare("10 s of silence, which the model does not read", services, upload(silence), rounds=5 * _ROUNDS)
        await _compare("3 s clip", services, upload(clip(3)))
        await _compare("10 s clip", services, upload(clip(10)))
        await _compare(
            f"{_AT_ONCE} clips of 10 s at once", services, upload(clip(10), times=_AT_ONCE), rounds=_ROUNDS // 2
        )
        for name, service in services.items():
            probes_ms = await _probes_ms(client, service, upload(clip(10), times=_AT_ONCE)(service))
            print(
                f"{name}: /healthz meanwhile: median {statistics.median(probes_ms):.1f} ms, worst {max(probes_ms):.0f}"
            )
            print(f"{name}: resident memory {idle[name]:.0f} MB idle, {service.resident_mb():.0f} MB after")
        await _kill_and_wait(client, services["process"])


async def _compare(what: str, services: Mapping[str, Service], measure: _Measure, *, rounds: int = _ROUNDS) -> None:
    for service in services.values():
        await measure(service)
    taken_s: dict[str, list[float]] = {name: [] for name in services}
    cpu_s = dict.fromkeys(services, 0.0)
    for number in range(rounds):
        # By turns, and each goes first every other time, so that a busy machine burdens both.
        for name in sorted(services, reverse=bool(number % 2)):
            wall_s, used_s = await measure(services[name])
            taken_s[name].append(wall_s)
            cpu_s[name] += used_s / rounds
    median = {name: statistics.median(times) for name, times in taken_s.items()}
    best = {name: min(times) for name, times in taken_s.items()}
    print(
        f"{what}: median {1000 * median['none']:.1f} ms without, {1000 * median['process']:.1f} ms with: "
        f"{median['process'] / median['none']:.2f} times; "
        f"best {1000 * best['none']:.1f} and {1000 * best['process']:.1f} ms: {best['process'] / best['none']:.2f} times; "
        f"CPU {1000 * cpu_s['none']:.1f} and {1000 * cpu_s['process']:.1f} ms: {cpu_s['process'] / cpu_s['none']:.2f} times",
        flush=True,
    )


async def _probes_ms(client: httpx2.AsyncClient, service: Service, work: Awaitable[object]) -> list[float]:
    working = asyncio.ensure_future(work)
    taken_ms: list[float] = []
    while not working.done():
        asked = time.perf_counter()
        (await client.get(f"{service.url}/healthz")).raise_for_status()
        taken_ms.append(1000 * (time.perf_counter() - asked))
        await asyncio.wait((working,), timeout=0.01)
    await working
    return taken_ms


async def _kill_and_wait(client: httpx2.AsyncClient, service: Service) -> None:
    (child,) = service.children()
    began = time.perf_counter()
    child.kill()
    for wanted in (False, True):
        while (await client.get(f"{service.url}/readyz")).is_success is not wanted:  # noqa: ASYNC110 - the answer is the event
            await asyncio.sleep(0.005)
    print(f"kill -9 of the model's process: ready again after {time.perf_counter() - began:.1f} s")
