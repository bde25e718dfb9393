"""The command with `CLUSTER=ray`: two workers on this machine give the text of one process, also while they die."""

import asyncio
import json
import os
import re
import signal
import sys
import time
import wave
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest
from websockets.asyncio.client import connect

from tests.integration.processes import SAMPLE, Server, started, wait_until_ok

pytest.importorskip("ray", reason="Ray is not installed: `make check-cluster` runs this")

SERVE = (sys.executable, "-m", "parakeet_service", "serve", "--model-id", "embedded", "--port", "0")


@contextmanager
def service(cwd: Path, **settings: str) -> Generator[tuple[Server, str]]:
    with started(SERVE, cwd=cwd, LOG_FORMAT="json", PROCESSING_TIMEOUT="600", **settings) as server:
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        yield server, url


@contextmanager
def cluster(cwd: Path) -> Generator[tuple[Server, str]]:
    with service(cwd, CLUSTER="ray", CLUSTER_WORKERS="2") as (server, url):
        wait_for_workers(url)
        yield server, url


def wait_for_workers(url: str) -> None:
    """Until both are up; the test's own time limit is the limit."""
    while httpx2.get(f"{url}/readyz", trust_env=False).json().get("workers_up") != 2:
        time.sleep(0.2)


def session_of_ray(server: Server) -> list[psutil.Process]:
    """Everything that the service's own Ray runs."""
    (head,) = [child for child in psutil.Process(server.process.pid).children() if "start" in child.cmdline()]
    return [head, *head.children(recursive=True)]


def workers(server: Server) -> list[psutil.Process]:
    return [process for process in session_of_ray(server) if "EngineWorker" in " ".join(process.cmdline())]


def lost(url: str) -> int:
    metrics = httpx2.get(f"{url}/metrics", trust_env=False).text
    (count,) = re.findall(r"^parakeet_cluster_workers_lost_total (\S+)", metrics, re.MULTILINE)
    return round(float(count))


async def upload(client: httpx2.AsyncClient, url: str) -> str:
    answer = await client.post(f"{url}/transcribe", files={"file": SAMPLE.read_bytes()})
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["text"]
    return text


async def live(url: str) -> list[str]:
    """The finals of a live session, at the pace at which the service takes the audio."""
    with wave.open(str(SAMPLE)) as sample:
        pcm = sample.readframes(sample.getnframes())
    finals: list[str] = []
    async with connect(url.replace("http", "ws") + "/ws", proxy=None) as socket:

        async def send() -> None:
            for at in range(0, len(pcm), 16000):
                await socket.send(pcm[at : at + 16000])
            await socket.send(json.dumps({"type": "close"}))

        sending = asyncio.create_task(send())
        async for message in socket:
            event = json.loads(message)
            assert event["type"] != "error", event
            if event["type"] == "final":
                finals.append(event["text"])
        await sending
        assert socket.close_code == 1000
    return finals


async def load(url: str, *, uploads: int, sessions: int) -> tuple[list[str], list[list[str]]]:
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
        uploaded, spoken = await asyncio.gather(
            asyncio.gather(*(upload(client, url) for _ in range(uploads))),
            asyncio.gather(*(live(url) for _ in range(sessions))),
        )
    return uploaded, spoken


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.soak)])
async def test_workers_that_are_killed_cost_no_answer_and_no_session(tmp_path: Path, kills: int) -> None:
    with service(tmp_path) as (_, url):
        texts, finals = await load(url, uploads=1, sessions=1)
    with cluster(tmp_path) as (server, url):
        assert await load(url, uploads=1, sessions=1) == (texts, finals)
        for kill in range(1, kills + 1):
            under_load = asyncio.create_task(load(url, uploads=20, sessions=10))
            victim = workers(server)[0]
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
