"""What the tests of `CLUSTER=ray` share: services, uploads and live sessions, and a Ray that nobody of them started."""

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx2
import psutil
import pytest
from websockets.asyncio.client import connect

from tests.integration.processes import HANGS_S, SAMPLE, Server, started, wait_until_ok

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: `make check-cluster` runs this")
"""Without its import, at which Ray reads the environment."""
SERVE = (sys.executable, "-m", "parakeet_service", "serve", "--model-id", "embedded", "--port", "0")


@contextmanager
def service(cwd: Path, **settings: str) -> Generator[tuple[Server, str]]:
    """The command, ready."""
    with started(SERVE, cwd=cwd, LOG_FORMAT="json", PROCESSING_TIMEOUT="600", **settings) as server:
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        yield server, url


def wait_for_workers(url: str) -> None:
    """Until both are up; the test's own time limit is the limit."""
    while httpx2.get(f"{url}/readyz", trust_env=False).json().get("workers_up") != 2:
        time.sleep(0.2)


def workers_among(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run an engine."""
    return [process for process in processes if "EngineWorker" in _command(process)]


async def upload(client: httpx2.AsyncClient, url: str) -> str:
    """The text of the sample."""
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
    """Texts of uploads, and finals of live sessions, all at once."""
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
        uploaded, spoken = await asyncio.gather(
            asyncio.gather(*(upload(client, url) for _ in range(uploads))),
            asyncio.gather(*(live(url) for _ in range(sessions))),
        )
    return uploaded, spoken


@contextmanager
def ray_head(*options: str) -> Generator[tuple[psutil.Process, dict[str, str]]]:
    """A cluster of one node on loopback, as an operator starts it, and the settings with which a service joins it."""
    token = secrets.token_hex(32)
    directory = Path(tempfile.mkdtemp(prefix="prk", dir="/tmp"))  # short: sockets lie below
    with (directory / "output").open("wb") as output:
        head = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"),
                *("--node-ip-address=127.0.0.1", "--port=0", f"--temp-dir={directory}", "--disable-usage-stats"),
                *("--include-dashboard=false", "--object-store-memory=134217728", *options),
            ],
            env=os.environ
            | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        found, deadline = directory / "ray_current_cluster", time.monotonic() + HANGS_S
        while not (found.exists() and found.read_text()):
            assert head.poll() is None, (directory / "output").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        address = found.read_text().strip()
        yield (
            psutil.Process(head.pid),
            {
                "CLUSTER": "ray",
                "CLUSTER_WORKERS": "2",
                "CLUSTER_TOKEN": token,
                "RAY_ADDRESS": address,
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            },
        )
    finally:
        of_ray = psutil.Process(head.pid).children(recursive=True)
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(timeout=60)
        finally:
            for process in of_ray:
                if process.is_running():
                    process.kill()
            head.kill()
            head.wait()
            shutil.rmtree(directory, ignore_errors=True)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
