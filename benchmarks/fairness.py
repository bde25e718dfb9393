"""How long a short clip waits while hours of speech are being read."""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx2

from .harness import Service, model_directory, running_service
from .job_load import RunningJob, job_settings
from .report import Chart, Table
from .speech import RATE_HZ, Recording, clip, joined, recordings

_CLIP_S = 3.0
_PAUSE_S = 0.5
"""Between two clips, on average: asked back to back, each would come just as a batch ends."""
_BEGINNING = 3
"""Clips after which the first minutes have been read: each is read after what was as urgent and came before."""
_BOUNDARY = "one-of-many-hours"
_READ = "parakeet_model_audio_seconds_total"
_PIECE_BYTES = 1 << 16


class _Load(Protocol):
    """A long recording that the service reads."""

    sent: bool
    """Whether the service has it, and reads it or will soon."""
    least_waiting: int
    """Windows of it that wait for the model at least, while it is read."""

    async def send(self, service: Service, client: httpx2.AsyncClient) -> None:
        """Have it read to its end."""
        ...


def run(directory: Path | None, model: str, measurements: int, long_ones: int, hours: float) -> Chart:
    """Print the latency of a 3 s clip in an idle service, and in one that reads long recordings.

    Half of the idle clips are sent before and half after the loaded ones. The first minute of a long recording is as
    urgent as a short clip; the clips that are sent in it, few because they wait long, are told apart. The service is under its default settings
    and keeps the uploads in ``TMPDIR``: 115 MB for each hour.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        measurements: Clips idle, and as many under load.
        long_ones: Recordings that are read meanwhile.
        hours: Length of each.
    """
    speech = joined(recordings(directory), at_least_s=60)
    loads = [_Upload(speech, hours) for _ in range(long_ones)]
    with tempfile.TemporaryDirectory() as scratch:
        settings = {
            "MODEL_ID": model_directory(model, Path(scratch)),
            "PROCESSING_TIMEOUT": "1e6",
            "MAX_FILE_DURATION": "1e6",
            "MAX_UPLOADS": str(max(64, long_ones + 1)),
        }
        with running_service(**settings) as service:
            return asyncio.run(_run(service, speech, measurements, loads, f"{long_ones} recordings of {hours:g} h"))


def run_beside_jobs(directory: Path | None, model: str, measurements: int, jobs: int, minutes: float) -> Chart:
    """Print the same of a service that reads so many jobs at once, each of so many minutes.

    All of them run: ``JOB_WORKERS`` is their number. They lie in ``TMPDIR``: 1.9 MB for each minute.
    """
    speech = joined(recordings(directory), at_least_s=minutes * 60)
    wav = Recording("job", clip(speech.samples, 0, minutes * 60), None).wav
    loads = [RunningJob(wav) for _ in range(jobs)]
    with tempfile.TemporaryDirectory() as scratch:
        settings = {"MODEL_ID": model_directory(model, Path(scratch)), **job_settings(Path(scratch), jobs)}
        with running_service(**settings) as service:
            return asyncio.run(_run(service, speech, measurements, loads, f"{jobs} jobs of {minutes:g} min"))


async def _run(service: Service, speech: Recording, measurements: int, loads: Sequence[_Load], load: str) -> Chart:
    wav = Recording("clip", clip(speech.samples, 0, _CLIP_S), None).wav
    limits = httpx2.Limits(max_connections=len(loads) + 4)
    async with httpx2.AsyncClient(timeout=None, limits=limits) as client:
        probe = _Probe(service, client, wav)
        await probe.measure(3)  # compiles
        idle_s = await probe.measure(measurements // 2)
        working = [asyncio.create_task(one.send(service, client)) for one in loads]
        try:
            await _until_all_are_read(service, client, loads, working)
            beginning_s = await probe.measure(_BEGINNING)
            began, before_s = time.perf_counter(), await service.metric(client, _READ)
            loaded_s, depths = await _under_load(probe, measurements, working)
            read_s = await service.metric(client, _READ) - before_s
            speed = read_s / (time.perf_counter() - began)
        finally:
            for task in working:
                task.cancel()
            outcomes = await asyncio.gather(*working, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        await _until_idle(service, client)
        idle_s += await probe.measure(measurements - measurements // 2)
    _print(idle_s, beginning_s, loaded_s, load)
    waiting = f"{statistics.median(depths):.0f} windows waited in the median, {min(depths):.0f} at least"
    print(f"meanwhile the model read {speed:.0f} times real time, clips included; {waiting}")
    lines = {
        name: [(100 * rank / len(taken), 1000 * each) for rank, each in enumerate(sorted(taken), 1)]
        for name, taken in (("idle", idle_s), (f"beside {load}", loaded_s))
    }
    return Chart("Latency of a 3 s clip", "percentile", "ms", lines)


def _print(idle_s: Sequence[float], beginning_s: Sequence[float], loaded_s: Sequence[float], load: str) -> None:
    table = Table(f"latency of a {_CLIP_S:g} s clip", "clips", "median", "95 %", "worst")
    for name, taken in (("idle", idle_s), (f"as {load} begin", beginning_s), (f"beside {load}", loaded_s)):
        figures = (statistics.median(taken), _p95(taken), max(taken))
        table.row(name, str(len(taken)), *(f"{1000 * each:.0f} ms" for each in figures))
    table.row("95 % over idle median", "", "", f"{_p95(loaded_s) / statistics.median(idle_s):.2f}x", "")
    table.row("95 % over idle 95 %", "", "", f"{_p95(loaded_s) / _p95(idle_s):.2f}x", "")


def _p95(taken: Sequence[float]) -> float:
    return statistics.quantiles(taken, n=20, method="inclusive")[-1]


@dataclass(frozen=True, slots=True)
class _Probe:
    service: Service
    client: httpx2.AsyncClient
    wav: bytes

    async def measure(self, times: int) -> list[float]:
        """Seconds from sending a clip to its text, one after the other, with pauses."""
        return [await self.once() for _ in range(times)]

    async def once(self) -> float:
        await asyncio.sleep(random.uniform(0, 2 * _PAUSE_S))  # noqa: S311 - no secret
        began = time.perf_counter()
        answer = await self.service.transcribe(self.client, self.wav)
        took_s = time.perf_counter() - began
        if not answer["text"]:
            raise SystemExit("the clip must be speech, but nothing was read in it")
        return took_s


async def _under_load(
    probe: _Probe, measurements: int, working: "Sequence[asyncio.Task[None]]"
) -> tuple[list[float], list[float]]:
    """Seconds for each clip, and how many windows waited before it."""
    taken_s: list[float] = []
    depths: list[float] = []
    for _ in range(measurements):
        depths.append(await probe.service.metric(probe.client, "parakeet_queue_depth"))
        taken_s.append(await probe.once())
        _check_all_work(working)
    return taken_s, depths


def _check_all_work(working: "Sequence[asyncio.Task[None]]") -> None:
    for task in working:
        if task.done():
            task.result()
            raise SystemExit("a long recording was read to its end before all clips were: raise --hours or --minutes")


async def _until_all_are_read(
    service: Service,
    client: httpx2.AsyncClient,
    loads: Sequence[_Load],
    working: "Sequence[asyncio.Task[None]]",
) -> None:
    while not all(one.sent for one in loads):
        _check_all_work(working)
        await asyncio.sleep(0.1)
    while await service.metric(client, "parakeet_queue_depth") < sum(one.least_waiting for one in loads):
        _check_all_work(working)
        await asyncio.sleep(0.1)


async def _until_idle(service: Service, client: httpx2.AsyncClient) -> None:
    """Wait until the service has noticed that nobody waits for the recordings any more."""
    began = time.perf_counter()
    while await service.metric(client, "parakeet_queue_depth"):
        if time.perf_counter() - began > 60:
            raise SystemExit("the service goes on reading recordings whose callers have left")
        await asyncio.sleep(0.1)
    # The batch at work is not in the queue.
    await asyncio.sleep(2)


class _Upload:
    """A WAV file of speech over and over, made while it is sent."""

    def __init__(self, speech: Recording, hours: float) -> None:
        self._pcm = speech.samples.tobytes()
        self._size = 2 * int(hours * 3600 * RATE_HZ)
        self.sent = False
        self.least_waiting = 1

    async def send(self, service: Service, client: httpx2.AsyncClient) -> None:
        """Upload it, and wait for its text.

        Raises:
            httpx2.HTTPError: The service took no more, or refused it.
        """
        head = (
            f"--{_BOUNDARY}\r\n"
            'Content-Disposition: form-data; name="file"; filename="recording"\r\n'
            "Content-Type: audio/wav\r\n\r\n"
        ).encode() + Recording.header(self._size)
        tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
            "Content-Length": str(len(head) + self._size + len(tail)),
        }
        answer = await client.post(f"{service.url}/transcribe", content=self._body(head, tail), headers=headers)
        answer.raise_for_status()

    async def _body(self, head: bytes, tail: bytes) -> AsyncGenerator[bytes]:
        yield head
        for start in range(0, self._size, _PIECE_BYTES):
            count = min(_PIECE_BYTES, self._size - start)
            begin = start % len(self._pcm)
            piece = self._pcm[begin : begin + count]
            yield piece + self._pcm[: count - len(piece)]
        yield tail
        self.sent = True
