"""How the time for a second of audio depends on the length of what is read."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import numpy as np

from parakeet_service.application.ports.speech_model import SpeechModel
from parakeet_service.application.transcribe_file import TranscribeFile
from parakeet_service.bootstrap.container import Container
from parakeet_service.config.logs import configure_logging
from parakeet_service.config.settings import Settings

from .harness import Took, model_directory
from .report import Chart, Table
from .speech import Recording, clip, joined, recordings

_LENGTHS_S = (1, 2, 5, 10, 20, 30, 60)


def run(directory: Path | None, model: str, rounds: int) -> Chart:
    """Print wall and CPU time per second of audio, in this process: in one window while the model takes it as one.

    Longer ones go as files through the chunker, without a detector of speech, so that all of them is read.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        rounds: How often each length has its turn.
    """
    configure_logging(level="WARNING", log_format="auto")
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(model_id=model_directory(model, Path(scratch)), vad="none")
        return asyncio.run(_run(Container(settings=settings), joined(recordings(directory), at_least_s=90), rounds))


async def _run(container: Container, speech: Recording, rounds: int) -> Chart:
    mine = container.model()
    await mine.start()
    try:
        transcribe_file, max_window_s = container.transcribe_file(), mine.describe().max_window_s
        taken: dict[int, list[Took]] = {length_s: [] for length_s in _LENGTHS_S}
        # Turn by turn, each time another stretch of speech. The first round compiles.
        for number in range(rounds + 1):
            for length_s in _LENGTHS_S:
                part = Recording("part", clip(speech.samples, number, length_s), None)
                took = await _read(mine, part) if length_s <= max_window_s else await _read_file(transcribe_file, part)
                if number:
                    taken[length_s].append(took)
    finally:
        await mine.aclose()
    table = Table("length", "wall, ms per s", "CPU, ms per s", "times real time")
    lines: dict[str, list[tuple[float, float]]] = {"wall time": [], "CPU time": []}
    for length_s, turns in taken.items():
        wall_ms = statistics.median(turn.wall_s for turn in turns) / length_s * 1000
        cpu_ms = statistics.median(turn.cpu_s for turn in turns) / length_s * 1000
        way = "one window" if length_s <= max_window_s else "a file in chunks"
        table.row(f"{length_s} s, {way}", f"{wall_ms:.1f}", f"{cpu_ms:.1f}", f"{1000 / wall_ms:.0f}")
        lines["wall time"].append((length_s, wall_ms))
        lines["CPU time"].append((length_s, cpu_ms))
    return Chart("Time for a second of audio", "length, s", "ms", lines)


async def _read(model: SpeechModel, part: Recording) -> Took:
    samples = part.samples.astype(np.float32) / np.float32(32768)
    began, before_s = time.perf_counter(), time.process_time()
    await model.transcribe(samples)
    return Took(time.perf_counter() - began, time.process_time() - before_s)


async def _read_file(transcribe_file: TranscribeFile, part: Recording) -> Took:
    wav = part.wav

    async def source() -> AsyncGenerator[bytes]:
        yield wav

    began, before_s = time.perf_counter(), time.process_time()
    await transcribe_file(source())
    return Took(time.perf_counter() - began, time.process_time() - before_s)
