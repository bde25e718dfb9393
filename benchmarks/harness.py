"""What the measurements share: a running service and its clients."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx2
import numpy as np
import psutil
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from .speech import RATE_HZ


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds that passed, and seconds of CPU, which tell costs on a busy machine, too."""

    wall_s: float
    cpu_s: float


class Service:
    """The service in a process of its own, on a free port."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url = url
        self._process = process

    def children(self) -> list[psutil.Process]:
        """The processes that it has started."""
        return self._process.children()

    def descendants(self) -> list[psutil.Process]:
        """The same, and what those have started."""
        return self._process.children(recursive=True)

    def is_complete(self) -> bool:
        """Whether it is ready, with all of its workers if it has a cluster."""
        answer = httpx2.get(f"{self.url}/readyz", timeout=60)
        body = answer.json()
        return answer.status_code == 200 and body.get("workers_up") == body.get("workers_wanted")

    def resident_mb(self) -> float:
        """Memory of the process and its children."""
        family = [self._process, *self._process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family) / 1e6

    def cpu_s(self) -> float:
        """Processor time that the process and its children have taken."""
        family = [self._process, *self._process.children(recursive=True)]
        return sum(sum(member.cpu_times()[:2]) for member in family)

    def cpu_by_process(self) -> dict[int, float]:
        """Likewise by process number: first its own, then its children in the order of their start."""
        children = sorted(self._process.children(recursive=True), key=lambda child: (child.create_time(), child.pid))
        return {member.pid: sum(member.cpu_times()[:2]) for member in (self._process, *children)}

    def own_cpu_s(self) -> float:
        """Processor time that the process itself has taken, which all requests share."""
        return sum(self._process.cpu_times()[:2])

    async def transcribe(self, client: httpx2.AsyncClient, content: bytes, **fields: str) -> dict[str, Any]:
        """Upload a recording to ``/transcribe``."""
        answer = await client.post(f"{self.url}/transcribe", files={"file": ("recording", content)}, data=fields)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    async def metric(self, client: httpx2.AsyncClient, name: str) -> float:
        """The value of a metric without labels."""
        answer = await client.get(f"{self.url}/metrics")
        answer.raise_for_status()
        found = re.search(rf"(?m)^{name} (\S+)$", answer.text)
        if found is None:
            raise SystemExit(f"the service has no metric {name}")
        return float(found[1])

    def metrics(self) -> dict[str, float]:
        """The values of all metrics, by name and labels."""
        answer = httpx2.get(f"{self.url}/metrics")
        answer.raise_for_status()
        lines = (line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    async def stream(
        self, samples: NDArray[np.int16], *, speed: float | None = None, frame: int = 1600
    ) -> list[dict[str, Any]]:
        """Send samples over ``/ws``, `speed` times as fast as they were spoken, and give all messages."""
        messages: list[dict[str, Any]] = []
        async with connect(f"{self.url.replace('http', 'ws', 1)}/ws", max_size=None) as socket:

            async def receive() -> None:
                async for message in socket:
                    messages.append(json.loads(message))

            receiving = asyncio.create_task(receive())
            began = time.monotonic()
            for start in range(0, len(samples), frame):
                await socket.send(samples[start : start + frame].tobytes())
                if speed:
                    await asyncio.sleep(max(0.0, began + (start + frame) / RATE_HZ / speed - time.monotonic()))
            await socket.send(json.dumps({"type": "close"}))
            await receiving
        errors = [message for message in messages if message["type"] == "error"]
        if errors:
            raise SystemExit(f"the stream failed: {errors}")
        return messages


def final_text(messages: Sequence[dict[str, Any]]) -> str:
    """The text of all finals."""
    return " ".join(message["text"] for message in messages if message["type"] == "final" and message["text"])


@contextmanager
def running_service(module: str = "parakeet_service", **settings: str) -> Generator[Service]:
    """Start the service, as `module` has it, with the embedded model unless `settings` say otherwise, and end it."""
    environment = {"MODEL_ID": "embedded", "LOG_LEVEL": "WARNING", "PORT": "0", **settings}
    process = subprocess.Popen(
        [sys.executable, "-m", module, "serve"],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        url = ""
        for line in process.stderr:
            if match := re.search(r"Listening on (http://[^\s\"]+)", line):
                url = match[1]
                break
            print(line, end="", file=sys.stderr)
        service = Service(url, psutil.Process(process.pid))
        while not service.is_complete():
            time.sleep(0.2)
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
        print("".join(line for line in rest.splitlines(keepends=True) if "error" in line), end="", file=sys.stderr)
    if process.returncode:
        raise SystemExit(f"the service exited with {process.returncode}")


class Contestant:
    """A process that reads clips and tells what that took; see `benchmarks.contestant`."""

    def __init__(self, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = psutil.Process(process.pid)
        self._asked, self._told, self._errors = process.stdin, process.stdout, errors

    def resident_mb(self) -> float:
        """Memory of the process."""
        return self._process.memory_info().rss / 1e6

    def read(self, count: int) -> Took:
        """Read so many clips at once."""
        print(count, file=self._asked, flush=True)
        answer = self._told.readline()
        if not answer:
            self._errors.seek(0)
            raise SystemExit(self._errors.read())
        wall_s, cpu_s = map(float, answer.split())
        return Took(wall_s, cpu_s)


@contextmanager
def running_contestant(who: str, model: str, samples: Path) -> Generator[Contestant]:
    """Start ``plain``, ``mlx`` or ``onnx`` with a model's directory and the samples in a ``.npy``, and end it."""
    command = [sys.executable, "-m", "benchmarks.contestant", who, model, str(samples)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        yield Contestant(process, errors)
        assert process.stdin is not None
        process.stdin.close()


def model_directory(model: str, scratch: Path) -> str:
    """Where ``embedded`` or ``0.6b`` (that architecture, random weights, made in `scratch`) is; else `model` itself."""
    if model == "0.6b":
        from .architecture import save_random_0_6b  # noqa: PLC0415 - imports MLX, which only the contestants may need

        return str(save_random_0_6b(scratch / "random-0.6b"))
    if model == "embedded":
        from parakeet_service.adapters.inference.checkpoint import locate  # noqa: PLC0415

        return str(locate(model, offline=True).weights.parent)
    return model
