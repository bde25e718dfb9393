"""`HTTP_PROCESSES` together with `CLUSTER=ray`: the processes share one queue before all workers, and one Ray."""

import asyncio
import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil

from tests.integration.processes import HANGS_S, Server, wait_until_ok
from tests.integration.ray.clusters import load, needs_ray, service, wait_for_workers, workers_among

pytestmark = needs_ray


@contextmanager
def cluster(cwd: Path) -> Generator[tuple[Server, str]]:
    with service(cwd, CLUSTER="ray", CLUSTER_WORKERS="2", HTTP_PROCESSES="2", JOBS="off") as (server, url):
        wait_for_workers(url)
        yield server, url


def family(server: Server) -> list[psutil.Process]:
    """The service's processes, and all of its Ray."""
    return psutil.Process(server.process.pid).children(recursive=True)


def owner_of_ray(server: Server) -> psutil.Process:
    """The process that has the queue and the workers."""
    (keeper,) = [process for process in family(server) if "parakeet_service.adapters.ray.node" in process.cmdline()]
    owner = keeper.parent()
    assert owner is not None
    return owner


def gone(processes: list[psutil.Process]) -> None:
    """Wait until they are; a zombie whose parent has died is."""
    deadline = time.monotonic() + HANGS_S
    while left := [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def answers(url: str, path: str) -> Iterator[str]:
    """Of enough new connections that every process has most likely taken one."""
    for _ in range(20):
        yield httpx2.get(f"{url}{path}", trust_env=False).text


async def test_processes_share_the_workers_and_what_is_counted(tmp_path: Path) -> None:
    with service(tmp_path) as (_, url):
        texts, finals = await load(url, uploads=1, sessions=1)
    with cluster(tmp_path) as (server, url):
        assert await load(url, uploads=12, sessions=6) == (texts * 12, finals * 6)
        assert {re.sub(r"\s", "", answer) for answer in answers(url, "/readyz")} == {
            '{"status":"ready","workers_up":2,"workers_wanted":2}'
        }
        for metrics in answers(url, "/metrics"):
            assert 'parakeet_cluster_workers{state="up"} 2.0' in metrics
            audio = dict(
                re.findall(r'^parakeet_cluster_worker_audio_seconds_total\{worker="(\d)"\} (\S+)', metrics, re.M)
            )
            assert all(float(audio[worker]) > 0 for worker in "01")
        # A worker that dies with nothing to do is known to all, and so is its successor.
        workers_among(family(server))[0].kill()
        while "parakeet_cluster_workers_lost_total 1.0" not in httpx2.get(f"{url}/metrics", trust_env=False).text:
            await asyncio.sleep(0.2)
        assert (await load(url, uploads=4, sessions=2)) == (texts * 4, finals * 2)
        wait_for_workers(url)
        everything = family(server)
        server.stop()
        gone(everything)


async def test_the_process_that_owns_the_workers_is_replaced_and_takes_its_ray_with_it(tmp_path: Path) -> None:
    with cluster(tmp_path) as (server, url):
        texts, _ = await load(url, uploads=1, sessions=0)
        owner = owner_of_ray(server)
        of_ray = owner.children(recursive=True)
        owner.kill()
        gone([owner, *of_ray])
        wait_until_ok(f"{url}/readyz")
        wait_for_workers(url)
        assert (await load(url, uploads=4, sessions=0))[0] == texts * 4


def test_nothing_is_left_of_a_service_that_was_killed(tmp_path: Path) -> None:
    with cluster(tmp_path) as (server, _):
        everything = family(server)
        (place,) = [
            Path(argument)
            for process in everything
            if "parakeet_service.adapters.ray.node" in process.cmdline()
            for argument in process.cmdline()
            if Path(argument).is_dir()
        ]
        # What is in it Ray opens to everybody.
        assert place.stat().st_mode & 0o077 == 0
        server.process.kill()
        gone(everything)
        assert not place.exists()
