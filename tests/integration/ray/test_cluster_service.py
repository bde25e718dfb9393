"""The command with `CLUSTER=ray`: two workers on this machine give the text of one process, also while they die."""

import asyncio
import os
import re
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.integration.processes import Server
from tests.integration.ray.clusters import load, needs_ray, service, wait_for_workers, workers_among

pytestmark = needs_ray


@contextmanager
def cluster(cwd: Path) -> Generator[tuple[Server, str]]:
    with service(cwd, CLUSTER="ray", CLUSTER_WORKERS="2") as (server, url):
        wait_for_workers(url)
        yield server, url


def session_of_ray(server: Server) -> list[psutil.Process]:
    """Everything that the service's own Ray runs."""
    (head,) = [child for child in psutil.Process(server.process.pid).children() if "start" in child.cmdline()]
    return [head, *head.children(recursive=True)]


def lost(url: str) -> int:
    metrics = httpx2.get(f"{url}/metrics", trust_env=False).text
    (count,) = re.findall(r"^parakeet_cluster_workers_lost_total (\S+)", metrics, re.MULTILINE)
    return round(float(count))


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.soak)])
async def test_workers_that_are_killed_cost_no_answer_and_no_session(tmp_path: Path, kills: int) -> None:
    with service(tmp_path) as (_, url):
        texts, finals = await load(url, uploads=1, sessions=1)
    with cluster(tmp_path) as (server, url):
        assert await load(url, uploads=1, sessions=1) == (texts, finals)
        for kill in range(1, kills + 1):
            under_load = asyncio.create_task(load(url, uploads=20, sessions=10))
            victim = workers_among(session_of_ray(server))[0]
            before = victim.cpu_times().user
            # It dies while it works.
            while victim.cpu_times().user < before + 0.2 and not under_load.done():
                await asyncio.sleep(0.02)
            assert not under_load.done()
            victim.kill()
            assert await under_load == (texts * 20, finals * 10)
            assert lost(url) == kill
            await asyncio.to_thread(wait_for_workers, url)
        of_ray = session_of_ray(server)
        listening = {
            connection.laddr.ip
            for process in of_ray
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
        # As Control-C does: everything in the terminal's process group hears it.
        os.kill(server.process.pid, signal.SIGINT)
        server.wait()
        _, alive = psutil.wait_procs(of_ray, timeout=20)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
