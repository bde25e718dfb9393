"""What the service adds to the engine: the same clips over HTTP and in one process, turn by turn."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import httpx2
import numpy as np

from .contestant import BATCH_SIZE, CACHE_LIMIT_BYTES, CLIP_S
from .harness import Contestant, Service, Took, model_directory, running_contestant, running_service
from .report import Chart, Table
from .speech import RATE_HZ, Recording, clip, joined, recordings

_AT_ONCE = 8
_ENGINE = "engine in one process"
_Turn: TypeAlias = Callable[[], Awaitable[Took]]


def run(directory: Path | None, model: str, rounds: int) -> Chart:
    """Print wall and CPU time for 8 clips of 10 s at once: the engine alone, and the service with and without VAD.

    The clients' CPU time counts for nobody, but they share the machine. A ratio is the median of the rounds' ratios,
    for the turns of one round see the same machine.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        rounds: How often each has its turn.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        samples = joined(recordings(directory), at_least_s=60).samples[: 60 * RATE_HZ]
        np.save(scratch / "samples.npy", samples.astype(np.float32) / np.float32(32768))
        found = model_directory(model, scratch)
        engine = stack.enter_context(running_contestant("mlx", found, scratch / "samples.npy"))
        services = {
            f"service, VAD={vad}": stack.enter_context(
                running_service(
                    MODEL_ID=found,
                    MODEL_PRECISION="bf16",
                    ENGINE="mlx",
                    BATCH_SIZE=str(BATCH_SIZE),
                    MLX_CACHE_LIMIT=str(CACHE_LIMIT_BYTES),
                    PROCESSING_TIMEOUT="3600",
                    VAD=vad,
                )
            )
            for vad in ("none", "silero")
        }
        clips = [Recording("clip", clip(samples, number, CLIP_S), None).wav for number in range(_AT_ONCE)]
        taken = asyncio.run(_run(engine, services, clips, rounds))
    table = Table(f"{_AT_ONCE} clips of {CLIP_S} s at once", "wall time", "ratio", "CPU time", "ratio")
    for name, turns in taken.items():
        pairs = list(zip(turns, taken[_ENGINE], strict=True))
        table.row(
            name,
            f"{statistics.median(turn.wall_s for turn in turns):.3f} s",
            f"{statistics.median(turn.wall_s / base.wall_s for turn, base in pairs):.3f}",
            f"{statistics.median(turn.cpu_s for turn in turns):.3f} s",
            f"{statistics.median(turn.cpu_s / base.cpu_s for turn, base in pairs):.3f}",
        )
    lines = {name: [(number, turn.wall_s) for number, turn in enumerate(turns, 1)] for name, turns in taken.items()}
    return Chart(f"{_AT_ONCE} clips of {CLIP_S} s at once", "round", "wall time, s", lines)


async def _run(
    engine: Contestant, services: dict[str, Service], clips: Sequence[bytes], rounds: int
) -> dict[str, list[Took]]:
    # One client: its connections are kept alive from round to round.
    async with httpx2.AsyncClient(timeout=3600) as client:

        async def in_process() -> Took:
            return engine.read(len(clips))

        def over_http(service: Service) -> _Turn:
            async def turn() -> Took:
                began, before_s = time.perf_counter(), service.cpu_s()
                await asyncio.gather(*(service.transcribe(client, wav) for wav in clips))
                return Took(time.perf_counter() - began, service.cpu_s() - before_s)

            return turn

        turns = {_ENGINE: in_process} | {name: over_http(service) for name, service in services.items()}
        taken: dict[str, list[Took]] = {name: [] for name in turns}
        names = list(turns)
        # The first round compiles. Each begins with another one, for who comes next may find the machine still warm.
        for number in range(rounds + 1):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                took = await turns[name]()
                if number:
                    taken[name].append(took)
        return taken
