"""Servers with jobs that are killed and started again."""

import io
import signal
import sys
import wave
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from tests.integration.processes import SAMPLE, Server, started, wait_until_ok

WAIT_S = 60
COMMAND = ("-m", "parakeet_service")
"""What Python runs as the server."""


def recording(times: int) -> bytes:
    """The sample, so many times in a row."""
    with wave.open(str(SAMPLE)) as sample:
        frames, parameters = sample.readframes(sample.getnframes()), sample.getparams()
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams(parameters)
        file.writeframes(frames * times)
    return written.getvalue()


def call(times: int) -> bytes:
    """Two people on a channel each: both say the sample, in turn, so many times in a row."""
    with wave.open(str(SAMPLE)) as sample:
        said, rate_hz = np.frombuffer(sample.readframes(sample.getnframes()), "<i2"), sample.getframerate()
    frames = np.zeros((times, 2, len(said), 2), "<i2")
    frames[:, 0, :, 0] = said
    frames[:, 1, :, 1] = said
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(frames.tobytes())
    return written.getvalue()


class JobServer:
    """A server in a process, and a client for it."""

    def __init__(self, server: Server, url: str) -> None:
        self.server = server
        self.url = url
        self.client = httpx2.Client(base_url=url, trust_env=False, timeout=600)

    def submit(self, data: bytes, **fields: str) -> str:
        answer = self.client.post("/v1/jobs", files={"file": ("a.wav", data)}, data=fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str, *, wait: float = 0) -> dict[str, Any]:
        answer = self.client.get(f"/v1/jobs/{job_id}", params={"wait": wait})
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def ended(self, job_id: str) -> dict[str, Any]:
        while (job := self.job(job_id, wait=WAIT_S))["status"] in ("queued", "running"):
            pass
        return job

    def text(self, job_id: str) -> str:
        assert self.ended(job_id)["status"] == "completed"
        return self.client.get(f"/v1/jobs/{job_id}/result", params={"response_format": "text"}).text

    def counted(self, name: str) -> float:
        """A figure of the metrics; 0 if there is none yet."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def kill(self) -> None:
        self.client.close()
        self.server.stop(signal.SIGKILL)


@contextmanager
def job_server(
    cwd: Path,
    data: Path,
    *,
    program: tuple[str, ...] = COMMAND,
    wait: bool = True,
    **settings: str,
) -> Generator[JobServer]:
    environment = {"MODEL_ID": "embedded", "LOG_FORMAT": "json", "CHUNK_DURATION": "10", "JOBS": "on"} | settings
    command = (sys.executable, *program, "serve", "--port", "0")
    with started(command, cwd=cwd, DATA_DIR=str(data), **environment) as server:
        url = server.wait_for_line("Listening on ")
        if wait:
            wait_until_ok(f"{url}/readyz")
        running = JobServer(server, url)
        try:
            yield running
        finally:
            running.client.close()
