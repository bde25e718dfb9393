"""Two of plain parakeet-mlx as its wheel comes and our engines: the same audio, model and device, turn by turn."""

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from .contestant import CLIP_S
from .harness import model_directory, running_contestant
from .report import Chart, Table
from .speech import RATE_HZ, joined, recordings

_ROUNDS = 5


def run(directory: Path | None, model: str, at_once: Sequence[int], contestants: Sequence[str]) -> Chart:
    """Print, for one clip and for many at once, the median time of each contestant, and the ratios of time and CPU time.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        at_once: How many clips are read at once.
        contestants: Two of ``plain``, ``mlx`` and ``onnx``.
    """
    lines: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        samples = joined(recordings(directory), at_least_s=60).samples.astype(np.float32) / np.float32(32768)
        np.save(scratch / "samples.npy", samples[: 60 * RATE_HZ])
        found = model_directory(model, scratch)
        first, second = (
            stack.enter_context(running_contestant(who, found, scratch / "samples.npy")) for who in contestants
        )
        table = Table(
            "clips of 10 s at once",
            contestants[0],
            "x real time",
            contestants[1],
            "x real time",
            "ratio",
            "of CPU time",
        )
        for count in at_once:
            # Turn by turn: what disturbs a machine for a while disturbs both. The first round compiles.
            rounds = [(first.read(count), second.read(count)) for _ in range(_ROUNDS + 1)][1:]
            each = list(zip(*rounds, strict=True))
            walls = [statistics.median(took.wall_s for took in tooks) for tooks in each]
            cpus = [statistics.median(took.cpu_s for took in tooks) for tooks in each]
            speeds = [count * CLIP_S / seconds for seconds in walls]
            cells = (
                cell
                for seconds, speed in zip(walls, speeds, strict=True)
                for cell in (f"{seconds:.3f} s", f"{speed:.0f}")
            )
            table.row(str(count), *cells, f"{walls[0] / walls[1]:.1f}x", f"{cpus[0] / cpus[1]:.1f}x")
            for name, speed in zip(lines, speeds, strict=True):
                lines[name].append((count, speed))
        for name, contestant in zip(contestants, (first, second), strict=True):
            print(f"resident memory, {name}: {contestant.resident_mb():.0f} MB")
    return Chart("Throughput", "clips of 10 s at once", "times real time", lines)
