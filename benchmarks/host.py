"""What the host has to do for each second of audio, whatever the engine: CPU time by stage, on a null engine."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2

from parakeet_service.application.ports.speech_model import SpeechModel
from parakeet_service.config.logs import configure_logging
from parakeet_service.config.settings import Settings

from .harness import Service, running_service
from .null_service import container_of
from .report import Table
from .speech import RATE_HZ, Recording, clip, joined, recordings

_CLIP_S = 10
_CLIPS = 64
_AT_ONCE = 16
_FILE_S = 1800
_PIECE_BYTES = 1 << 18
_BATCH_SIZE = 64
_MAX_QUEUE = 10_000
"""Nobody is to be turned away."""


@dataclass(frozen=True, slots=True)
class _Load:
    """Recordings, of which so many are on their way at once."""

    name: str
    recordings: Sequence[bytes]
    duration_s: float
    at_once: int

    async def send(self, send: Callable[[bytes], Awaitable[object]]) -> None:
        waiting = list(self.recordings)

        async def client() -> None:
            while waiting:
                await send(waiting.pop())

        await asyncio.gather(*(client() for _ in range(self.at_once)))


def run(directory: Path | None, rounds: int) -> None:
    """Print CPU time per second of audio, for clips of 10 s and for a recording of half an hour, as WAV.

    A stage is what a longer way through the service costs more than a shorter one: decoding alone; then with windows,
    queue and transcript; then with the detector, all in this process; and at last over HTTP, in a process of its own.
    Each figure is the least of all rounds, for whatever else the machine does only adds to it. Then the same over HTTP,
    with the detector in processes of its own.

    Args:
        directory: Of recordings; by default the bundled one.
        rounds: How often each has its turn.
    """
    configure_logging(level="WARNING", log_format="auto")
    samples = joined(recordings(directory), at_least_s=_FILE_S).samples[: _FILE_S * RATE_HZ]
    clips = [Recording("clip", clip(samples, number, _CLIP_S), None).wav for number in range(_CLIPS)]
    loads = [
        _Load(f"{_CLIP_S} s, {_AT_ONCE} at once", clips, _CLIPS * _CLIP_S, _AT_ONCE),
        _Load(f"{_FILE_S // 60} min", [Recording("file", samples, None).wav], _FILE_S, 1),
    ]
    table = Table("CPU ms per s of audio", "receive, answer", "decode", "detect", "schedule, join", "all")
    settings = {"VAD": "silero", "BATCH_SIZE": str(_BATCH_SIZE), "MAX_QUEUE": str(_MAX_QUEUE)}
    with running_service("benchmarks.null_service", **settings) as service:
        for load in loads:
            took = asyncio.run(_measured(service, load, rounds))
            decode, read, heard, served = (1000 * seconds / load.duration_s for seconds in took)
            stages = (served - heard, decode, heard - read, read - decode, served)
            table.row(load.name, *(f"{stage:.3f}" for stage in stages))
    _print_processes(loads, settings, rounds)


def _print_processes(loads: Sequence[_Load], settings: Mapping[str, str], rounds: int) -> None:
    """What the process that all requests share has to do, with the detector in it and in processes of its own."""
    table = Table(
        "CPU ms per s of audio, over HTTP", "VAD_PROCESSES", "own process", "its children", "x real time at most"
    )
    with (
        running_service("benchmarks.null_service", **settings, VAD_PROCESSES="0") as none,
        running_service("benchmarks.null_service", **settings, VAD_PROCESSES="2") as two,
    ):
        for load in loads:
            took = asyncio.run(_by_turns({"0": none, "2": two}, load, rounds))
            for count, (own_s, all_s) in took.items():
                own_ms, all_ms = (1000 * seconds / load.duration_s for seconds in (own_s, all_s))
                table.row(load.name, count, f"{own_ms:.3f}", f"{all_ms - own_ms:.3f}", f"{1000 / own_ms:.0f}")


async def _by_turns(services: Mapping[str, Service], load: _Load, rounds: int) -> dict[str, tuple[float, float]]:
    """The least CPU seconds of the service's own process, and those of the family in that round."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in services}
    async with httpx2.AsyncClient(timeout=3600, limits=httpx2.Limits(keepalive_expiry=2)) as client:
        for _ in range(rounds):
            for name, service in services.items():
                own_s, all_s = service.own_cpu_s(), service.cpu_s()
                await load.send(partial(service.transcribe, client))
                took[name].append((service.own_cpu_s() - own_s, service.cpu_s() - all_s))
    return {name: min(taken) for name, taken in took.items()}


async def _measured(service: Service, load: _Load, rounds: int) -> list[float]:
    """CPU seconds of each of the ways, in the order of their length."""
    deaf, hearing = (
        container_of(Settings(vad=vad, batch_size=_BATCH_SIZE, max_queue=_MAX_QUEUE)) for vad in ("none", "silero")
    )
    decoder = hearing.decoder()
    windows, speech = deaf.transcribe_file(), hearing.transcribe_file()

    async def decode(recording: bytes) -> None:
        async with decoder.open(_pieces(recording), sample_rate_hz=RATE_HZ) as decoded:
            async for _ in decoded.blocks:
                pass

    # Before the server closes what has been idle for 5 s.
    limits = httpx2.Limits(keepalive_expiry=2)
    client = httpx2.AsyncClient(timeout=3600, limits=limits)
    async with client, _started(deaf.model()), _started(hearing.model()):
        ways: list[tuple[Callable[[bytes], Awaitable[object]], Callable[[], float]]] = [
            (decode, time.process_time),
            (lambda recording: windows(_pieces(recording)), time.process_time),
            (lambda recording: speech(_pieces(recording)), time.process_time),
            (lambda recording: service.transcribe(client, recording), service.cpu_s),
        ]
        took: list[list[float]] = [[] for _ in ways]
        for _ in range(rounds):
            for taken, (send, cpu_s) in zip(took, ways, strict=True):
                before_s = cpu_s()
                await load.send(send)
                taken.append(cpu_s() - before_s)
    return [min(taken) for taken in took]


@asynccontextmanager
async def _started(model: SpeechModel) -> AsyncGenerator[None]:
    await model.start()
    try:
        yield
    finally:
        await model.aclose()


async def _pieces(recording: bytes) -> AsyncIterator[bytes]:
    """As an upload gives them."""
    for at in range(0, len(recording), _PIECE_BYTES):
        yield recording[at : at + _PIECE_BYTES]
