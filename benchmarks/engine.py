"""Our engine against plain parakeet-mlx as its wheel comes: the same audio, model and device, turn by turn."""

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


def run(directory: Path | None, model: str, at_once: Sequence[int]) -> Chart:
    """Print, for one clip and for many at once, the median time of each contestant, and the ratio.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        at_once: How many clips are read at once.
    """
    lines: dict[str, list[tuple[float, float]]] = {"parakeet-mlx": [], "ours": []}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        samples = joined(recordings(directory), at_least_s=60).samples.astype(np.float32) / np.float32(32768)
        np.save(scratch / "samples.npy", samples[: 60 * RATE_HZ])
        found = model_directory(model, scratch)
        plain, ours = (
            stack.enter_context(running_contestant(who, found, scratch / "samples.npy")) for who in ("plain", "ours")
        )
        table = Table("clips of 10 s at once", "parakeet-mlx", "x real time", "ours", "x real time", "ratio")
        for count in at_once:
            # Turn by turn: what disturbs a machine for a while disturbs both. The first round compiles.
            rounds = [(plain.read(count).wall_s, ours.read(count).wall_s) for _ in range(_ROUNDS + 1)][1:]
            theirs_s, ours_s = (statistics.median(times) for times in zip(*rounds, strict=True))
            speeds = [count * CLIP_S / seconds for seconds in (theirs_s, ours_s)]
            cells = (
                cell
                for seconds, speed in zip((theirs_s, ours_s), speeds, strict=True)
                for cell in (f"{seconds:.3f} s", f"{speed:.0f}")
            )
            table.row(str(count), *cells, f"{theirs_s / ours_s:.1f}x")
            for name, speed in zip(lines, speeds, strict=True):
                lines[name].append((count, speed))
    return Chart("Throughput", "clips of 10 s at once", "times real time", lines)
