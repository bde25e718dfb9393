"""What a process holds after large batches, and while it builds; in processes of their own, for memory is theirs."""

import subprocess
import sys
from pathlib import Path

from parakeet_service.adapters.inference.checkpoint import Checkpoint

RUN = """
import json, sys
from pathlib import Path
import numpy as np, psutil
from parakeet_service.adapters.onnx.loading import load
from parakeet_service.config.logs import configure_logging

configure_logging(level="WARNING", log_format="json")
directory, cache = map(Path, sys.argv[1:])
config = json.loads((directory / "config.json").read_text())
networks = load("m", config, directory / "model.safetensors", precision="int8", cache=cache, threads=1)

def resident_after(batch: int, frames: int) -> int:
    networks.encoder.encode(np.zeros((batch, frames, 80), np.float32), np.full(batch, frames))
    return psutil.Process().memory_info().rss

small = resident_after(1, 1000)
print(resident_after(24, 1000) - small, resident_after(1, 1000) - small)
"""

BUILD = """
import json, sys
from pathlib import Path
import psutil
from parakeet_service.adapters.onnx.architecture import architecture_of
from parakeet_service.adapters.onnx.build import build

directory, out = map(Path, sys.argv[1:])
architecture = architecture_of("m", json.loads((directory / "config.json").read_text()))
resident = []
build(out, architecture, directory / "model.safetensors", precision="fp32", top=255,
      on_read=lambda _: resident.append(psutil.Process().memory_info().rss))
print(max(resident) - resident[0], sum(path.stat().st_size for path in out.iterdir()))
"""


def test_builds_in_the_memory_of_a_few_tensors(tmp_path: Path, embedded: Checkpoint) -> None:
    command = [sys.executable, "-c", BUILD, str(embedded.weights.parent), str(tmp_path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    grown, written = map(int, answer.stdout.split())
    assert grown < 0.3 * written


def test_gives_back_what_a_large_batch_took(tmp_path: Path, embedded: Checkpoint) -> None:
    command = [sys.executable, "-c", RUN, str(embedded.weights.parent), str(tmp_path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    after_large, after_small = map(int, answer.stdout.split())
    # The largest array of such a batch alone takes 250 MB.
    assert after_large < 60e6
    assert after_small < 60e6
