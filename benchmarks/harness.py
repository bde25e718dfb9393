"""What the measurements share: a running service, its clients, recordings, and the distance of two texts."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
from numpy.typing import NDArray
from websockets.asyncio.client import connect

RATE_HZ = 16000


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording and what is said in it, if that is known."""

    name: str
    samples: NDArray[np.int16]
    text: str | None

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ

    @property
    def wav(self) -> bytes:
        """The recording as a WAV file."""
        size = 2 * len(self.samples)
        header = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0\1\0\1\0"
        header += RATE_HZ.to_bytes(4, "little") + (2 * RATE_HZ).to_bytes(4, "little") + b"\2\0\x10\0data"
        return header + size.to_bytes(4, "little") + self.samples.tobytes()


def recordings(directory: Path | None) -> list[Recording]:
    """The 16 kHz mono WAV files of `directory`, with the texts of its ``*.tsv`` (file in the first column, text in the last)."""
    directory = directory or Path(__file__).parents[1] / "src" / "samples"
    texts: dict[str, str] = {}
    for table in directory.glob("*.tsv"):
        for line in table.read_text(encoding="utf-8").splitlines():
            columns = line.split("\t")
            texts[columns[0]] = columns[-1]
    return [Recording(path.name, _samples(path), texts.get(path.name)) for path in sorted(directory.glob("*.wav"))]


def joined(parts: Sequence[Recording], *, at_least_s: float = 0) -> Recording:
    """The parts one after the other, over and over until there is enough."""
    pieces = list(parts)
    while sum(part.duration_s for part in pieces) < at_least_s:
        pieces += parts
    return Recording("joined", np.concatenate([piece.samples for piece in pieces]), None)


def _samples(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE_HZ, 1, 2):
            raise SystemExit(f"{path} is not 16 kHz mono 16-bit")
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


class Service:
    """The service in a process of its own, on a free port."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url = url
        self._process = process

    def resident_mb(self) -> float:
        """Memory of the process and its children."""
        family = [self._process, *self._process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family) / 1e6

    def cpu_s(self) -> float:
        """Processor time that the process and its children have taken: tells costs on a busy machine, too."""
        family = [self._process, *self._process.children(recursive=True)]
        return sum(sum(member.cpu_times()[:2]) for member in family)

    async def transcribe(self, client: httpx2.AsyncClient, content: bytes, **fields: str) -> dict[str, Any]:
        """Upload a recording to ``/transcribe``."""
        answer = await client.post(f"{self.url}/transcribe", files={"file": ("recording", content)}, data=fields)
        answer.raise_for_status()
        return answer.json()

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
def running_service(**settings: str) -> Generator[Service]:
    """Start the service with the embedded model unless `settings` say otherwise, and end it."""
    environment = {"MODEL_ID": "embedded", "LOG_LEVEL": "WARNING", "PORT": "0", **settings}
    process = subprocess.Popen(
        [sys.executable, "-m", "parakeet_service", "serve"],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        url = ""
        for line in process.stderr:
            if match := re.search(r"Listening on (http://\S+)", line):
                url = match[1]
                break
            print(line, end="", file=sys.stderr)
        while httpx2.get(f"{url}/readyz").status_code != 200:
            time.sleep(0.2)
        yield Service(url, psutil.Process(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
        print("".join(line for line in rest.splitlines(keepends=True) if "error" in line), end="", file=sys.stderr)
    if process.returncode:
        raise SystemExit(f"the service exited with {process.returncode}")


def words(text: str) -> list[str]:
    """Words without case and punctuation, as word error rates count them."""
    return re.sub(r"[^a-z0-9' ]+", " ", text.lower()).split()


def distance(reference: Sequence[str], other: Sequence[str]) -> int:
    """Least number of words to change, insert or delete."""
    row = list(range(len(other) + 1))
    for i, expected in enumerate(reference, 1):
        above, row[0] = row[0], i
        for j, found in enumerate(other, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (expected != found))
    return row[-1]
