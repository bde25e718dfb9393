"""Our engine against plain parakeet-mlx as its wheel comes: the same audio, model and device, each in its own process."""

import json
import subprocess
import sys
from pathlib import Path

from .harness import joined, recordings

_PLAIN = """
import mlx.core as mx
from parakeet_mlx import from_pretrained
from parakeet_mlx.audio import get_logmel
from parakeet_service.adapters.parakeet_mlx.checkpoint import locate
model = from_pretrained(str(locate("embedded", offline=True).weights.parent))
def transcribe(samples):
    return model.generate(get_logmel(mx.array(samples), model.preprocessor_config).astype(mx.bfloat16))[0].text
"""

_OURS = """
from parakeet_service.adapters.parakeet_mlx import blas
chosen = blas.preload()
from parakeet_service.adapters.parakeet_mlx.checkpoint import locate
from parakeet_service.adapters.parakeet_mlx.engine import Engine
engine = Engine(locate("embedded", offline=True), precision="bf16", blas=chosen)
def transcribe(samples):
    return "".join(token.text for token in engine.transcribe(samples)).strip()
"""

_MEASURE = """
import json, sys, time
import numpy as np
samples = np.frombuffer(sys.stdin.buffer.read(), "<i2").astype(np.float32) / np.float32(32768)
times = []
for _ in range(6):
    began = time.perf_counter()
    text = transcribe(samples)
    times.append(time.perf_counter() - began)
print(json.dumps({"text": text, "seconds": sorted(times[1:])[2]}))
"""


def run(directory: Path | None) -> None:
    """Print the median time of a 10 s clip with each, and the ratio."""
    clip = joined(recordings(directory), at_least_s=10).samples[:160_000]
    plain, ours = (_measure(script + _MEASURE, clip.tobytes()) for script in (_PLAIN, _OURS))
    print(f"10 s clip: parakeet-mlx {plain:.3f} s, ours {ours:.3f} s: {plain / ours:.1f} times as fast")


def _measure(script: str, samples: bytes) -> float:
    ran = subprocess.run([sys.executable, "-c", script], input=samples, capture_output=True, check=True)
    return float(json.loads(ran.stdout)["seconds"])
