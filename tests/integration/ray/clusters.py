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
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx2
import psutil
import pytest
from websockets.asyncio.client import connect

from tests.integration.processes import HANGS_S, SAMPLE, Server, started, wait_until_ok

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: `make check-cluster` runs this")
"""Without its import, at which Ray reads the environment."""
NODE_ADDRESS = "127.0.0.2"
"""Of nodes of a cluster that has several: Ray takes 127.0.0.1 for any address of this machine."""
SERVE = (sys.executable, "-m", "parakeet_service", "serve", "--model-id", "embedded", "--port", "0")


@contextmanager
def service(cwd: Path, **settings: str) -> Generator[tuple[Server, str]]:
    """The command, ready."""
    with started(SERVE, cwd=cwd, LOG_FORMAT="json", PROCESSING_TIMEOUT="600", **settings) as server:
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        yield server, url


def wait_for_workers(url: str, count: int = 2, node: psutil.Process | None = None) -> None:
    """Until so many are up, which `node` is needed for; the test's own time limit is the limit."""
    while httpx2.get(f"{url}/readyz", trust_env=False).json().get("workers_up") != count:
        assert node is None or (node.is_running() and node.status() != psutil.STATUS_ZOMBIE)
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


async def live(url: str, *, pause_s: float = 0.0) -> list[str]:
    """The finals of a live session, with a pause after each half second of audio, or as fast as the service takes it."""
    with wave.open(str(SAMPLE)) as sample:
        pcm = sample.readframes(sample.getnframes())
    finals: list[str] = []
    async with connect(url.replace("http", "ws") + "/ws", proxy=None) as socket:

        async def send() -> None:
            for at in range(0, len(pcm), 16000):
                await socket.send(pcm[at : at + 16000])
                await asyncio.sleep(pause_s)
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


@dataclass(frozen=True)
class Head:
    """A cluster on this machine.

    Attributes:
        process: Of its first node, whose descendants are all that runs on it.
        settings: With which a service joins it.
    """

    process: psutil.Process
    settings: dict[str, str]


def environment_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo after the test what a connection to Ray sets in this process."""
    for name in (
        *("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"),
        "RAY_task_events_report_interval_ms",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


@contextmanager
def ray_head(*options: str, more_nodes: bool = False, address: str = NODE_ADDRESS, **settings: str) -> Generator[Head]:
    """A cluster of one node on loopback, as an operator starts it; with `more_nodes`, others may join at `address`."""
    token = secrets.token_hex(32)
    # With 0, Ray keeps everything at 127.0.0.1, and refuses a second node.
    several = "1" if more_nodes else "0"
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": several}
    directory = Path(tempfile.mkdtemp(prefix="prk", dir="/tmp"))  # short: sockets lie below
    where = (
        "--head",
        "--include-dashboard=false",
        f"--node-ip-address={address if more_nodes else '127.0.0.1'}",
        "--port=0",
    )
    with _ray_node(directory / "output", environment, *where, f"--temp-dir={directory}", *options) as process:
        try:
            found, deadline = directory / "ray_current_cluster", time.monotonic() + HANGS_S
            while not (found.exists() and found.read_text()):
                assert process.is_running(), (directory / "output").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            joins = {
                "CLUSTER": "ray",
                "CLUSTER_TOKEN": token,
                "RAY_ADDRESS": found.read_text().strip(),
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": several,
            }
            yield Head(process, joins | settings)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def joined_node(head: Head, output: Path) -> Generator[psutil.Process]:
    """Another node of the cluster, on this machine; it may be ended meanwhile, and is at the end."""
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": head.settings["CLUSTER_TOKEN"],
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    }
    where = (f"--address={head.settings['RAY_ADDRESS']}", f"--node-ip-address={NODE_ADDRESS}")
    with _ray_node(output, environment, *where) as process:
        yield process


@contextmanager
def _ray_node(output: Path, environment: dict[str, str], *options: str) -> Generator[psutil.Process]:
    with output.open("wb") as log:
        node = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=2"),
                *("--disable-usage-stats", "--object-store-memory=134217728", *options),
            ],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    process = psutil.Process(node.pid)
    try:
        yield process
    finally:
        if node.poll() is None:
            of_ray = process.children(recursive=True)
            node.send_signal(signal.SIGTERM)
            try:
                node.wait(timeout=60)
            finally:
                kill(of_ray)
                node.kill()
        node.wait()


def kill(processes: Iterable[psutil.Process]) -> None:
    """As `kill -9` does; some may have ended."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
