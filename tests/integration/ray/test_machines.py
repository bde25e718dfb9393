"""Machines that join the cluster and leave it, under the mixed load of two services: no client sees it."""

import asyncio
import logging
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.integration.ray.clusters import (
    Head,
    joined_node,
    kill,
    live,
    needs_ray,
    ray_head,
    service,
    wait_for_workers,
    workers_among,
)
from tests.integration.ray.recordings import LONG_S, clips

pytestmark = needs_ray

_log = logging.getLogger(__name__)

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
LOOK_EVERY_S = 10.0
MOST_GROWTH = 1.15
"""Of what a process has in memory, from its second fifth to its last."""
FIFTHS = 5
FLAT_AFTER_S = 600.0
"""Before, caches fill."""


@dataclass
class Load:
    """What clients send until they are told to stop, and what they got."""

    urls: tuple[str, ...]
    expected: dict[str, str]
    finals: list[str]
    over: bool = False
    answers: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    async def run(self, during: Coroutine[None, None, None]) -> None:
        """Load all services until `during` has ended; the first wrong answer ends it all."""
        async with httpx2.AsyncClient(timeout=None, trust_env=False) as client, asyncio.TaskGroup() as clients:
            for at, url in enumerate(self.urls):
                for number in range(2):
                    clients.create_task(self._uploads(client, url, first=2 * at + number))
                    clients.create_task(self._sessions(url))
                clients.create_task(self._long_ones(client, url))
            await during
            self.over = True

    async def _uploads(self, client: httpx2.AsyncClient, url: str, *, first: int) -> None:
        names = [name for name in clips() if name != "long"]
        number = first
        while not self.over:
            name = names[number % len(names)]
            number += 1
            await self._upload(client, url, name)
            self.answers["uploads"] += 1
            await asyncio.sleep(0.5)

    async def _long_ones(self, client: httpx2.AsyncClient, url: str) -> None:
        while not self.over:
            await self._upload(client, url, "long")
            self.answers[f"recordings of {LONG_S:.0f} s"] += 1
            await asyncio.sleep(5)

    async def _upload(self, client: httpx2.AsyncClient, url: str, name: str) -> None:
        answer = await client.post(f"{url}/transcribe", files={"file": clips()[name]})
        assert answer.status_code == 200, answer.text
        assert answer.json()["text"] == self.expected[name]

    async def _sessions(self, url: str) -> None:
        while not self.over:
            # As fast as it is spoken.
            assert await live(url, pause_s=0.5) == self.finals
            self.answers["live sessions"] += 1


class Memory:
    """What processes have in memory, looked at again and again."""

    def __init__(self, watched: dict[str, psutil.Process]) -> None:
        self._watched = watched
        self._began = time.monotonic()
        self._series: dict[str, list[tuple[float, float]]] = {name: [] for name in watched}

    async def watch(self) -> None:
        while True:
            for name, process in self._watched.items():
                self._series[name].append((time.monotonic() - self._began, process.memory_info().rss / 1e6))
            now = {name: f"{series[-1][1]:.0f}" for name, series in self._series.items()}
            _log.info("after %.0f s, MB: %s", time.monotonic() - self._began, now)
            await asyncio.sleep(LOOK_EVERY_S)

    def growth(self) -> dict[str, float]:
        """From the second fifth of the time to the last one."""
        grown: dict[str, float] = {}
        for name, series in self._series.items():
            length = len(series) // FIFTHS
            early, late = series[length : 2 * length], series[-length:]
            grown[name] = statistics.median(mb for _, mb in late) / statistics.median(mb for _, mb in early)
        return grown


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("minutes", "stays_s"), [(0, 5), pytest.param(MINUTES, 15, marks=pytest.mark.soak)])
async def test_machines_that_join_and_leave_cost_no_answer_and_no_memory(
    tmp_path: Path, minutes: float, stays_s: float
) -> None:
    with service(tmp_path) as (_, url):
        expected, finals = await _alone(url)
    with (
        ray_head(more_nodes=True) as head,
        service(tmp_path, **head.settings) as (first_server, first),
        service(tmp_path, **head.settings) as (second_server, second),
    ):
        (worker,) = workers_among(head.process.children(recursive=True))
        memory = Memory(
            {
                "first front": psutil.Process(first_server.process.pid),
                "second front": psutil.Process(second_server.process.pid),
                "worker": worker,
            }
        )
        load = Load((first, second), expected, finals)
        watching = asyncio.create_task(memory.watch())
        await load.run(_come_and_go(head, load.urls, tmp_path, 60 * minutes, stays_s))
        watching.cancel()
        _log.info("answers, all right: %s", dict(load.answers))
        _log.info("memory, last fifth of the time to the second: %s", memory.growth())
        assert set(load.answers) >= {"uploads", "live sessions"}
        assert worker.is_running()
        if minutes * 60 > FLAT_AFTER_S:
            assert max(memory.growth().values()) < MOST_GROWTH
        for server in (first_server, second_server):
            assert server.stop() == 0
            assert not [line for line in server.lines if "unexpected_error" in line]


async def _alone(url: str) -> tuple[dict[str, str], list[str]]:
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
        texts = {
            name: (await client.post(f"{url}/transcribe", files={"file": data})).json()["text"]
            for name, data in clips().items()
        }
    return texts, await live(url)


async def _come_and_go(head: Head, urls: tuple[str, ...], scratch: Path, lasts_s: float, stays_s: float) -> None:
    """A second machine joins, stays, and leaves, told to or killed in turn, again and again; at least once each."""
    end = time.monotonic() + lasts_s
    leave: list[Callable[[psutil.Process], None]] = [psutil.Process.terminate, _kill_all]
    turn = 0
    while turn < len(leave) or time.monotonic() < end:
        with joined_node(head, scratch / "node") as node:
            for url in urls:
                await asyncio.to_thread(wait_for_workers, url, 2, node)
            await asyncio.sleep(stays_s)
            leave[turn % len(leave)](node)
            left = time.monotonic()
            for url in urls:
                await asyncio.to_thread(wait_for_workers, url, 1)
            await asyncio.to_thread(psutil.wait_procs, [node], 60)
            how = "told to end" if turn % len(leave) == 0 else "killed"
            _log.info("a machine was %s; known after %.1f s", how, time.monotonic() - left)
        turn += 1


def _kill_all(node: psutil.Process) -> None:
    kill([*node.children(recursive=True), node])
