"""What a search costs: one clip read greedily and by searches, turn by turn, and the search of plain parakeet-mlx."""

import statistics
import time
from pathlib import Path

import numpy as np

from .contestant import CLIP_S
from .speech import RATE_HZ, joined, recordings

_ROUNDS = 9
_NAMES = ("Gutenberg", "Nuremberg", "Rotterdam", "Kowalski", "Lindqvist", "Nakamura", "Delacroix", "Bartholomew")
_FIFTY = tuple(f"{name} {number}" for name in _NAMES for number in "abcdefg")[:50]


def run(directory: Path | None, model: str) -> None:
    """Print the median time of each kind of reading, and its ratio to the greedy one.

    Args:
        directory: Of recordings; by default the bundled one.
        model: A name or a directory.
    """
    from parakeet_service.adapters.parakeet_mlx import blas  # noqa: PLC0415 - importing MLX binds its BLAS

    chosen = blas.preload()
    import mlx.core as mx  # noqa: PLC0415 - see above
    from parakeet_mlx.parakeet import Beam, DecodingConfig, ParakeetTDT  # noqa: PLC0415
    from parakeet_mlx.utils import from_config  # noqa: PLC0415

    from parakeet_service.adapters.inference.checkpoint import locate  # noqa: PLC0415
    from parakeet_service.adapters.inference.jobs import EncoderJob  # noqa: PLC0415
    from parakeet_service.adapters.parakeet_mlx.features import LogMel  # noqa: PLC0415
    from parakeet_service.adapters.parakeet_mlx.loading import load_engine  # noqa: PLC0415
    from parakeet_service.application.ports.speech_model import GREEDY, Decoding  # noqa: PLC0415

    clip = joined(recordings(directory), at_least_s=CLIP_S).samples[: CLIP_S * RATE_HZ]
    clip = clip.astype(np.float32) / np.float32(32768)
    checkpoint = locate(model, offline=True)
    engine = load_engine(checkpoint, precision="fp32", blas=chosen, cache_limit_bytes=256 << 20)
    kinds = {
        "greedy": GREEDY,
        "beam of 5": Decoding(beam_size=5),
        "50 phrases": Decoding(phrases=_FIFTY),
        "beam of 16": Decoding(beam_size=16),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    steps: dict[str, int] = {}
    for _ in range(_ROUNDS + 1):
        for name, decoding in kinds.items():
            began = time.perf_counter()
            steps[name] = sum(1 for _ in engine.run([EncoderJob(clip, decoding=decoding)]))
            times[name].append(time.perf_counter() - began)
    # The first round compiles, and learns the phrases.
    median_s = {name: statistics.median(took_s[1:]) for name, took_s in times.items()}
    for name, took_s in median_s.items():
        first = f"{times[name][0]:.3f} s the first time"
        print(f"{name:<12} {took_s:.3f} s, {took_s / median_s['greedy']:.2f} x greedy, {steps[name]} steps, {first}")
    plain = from_config(checkpoint.config)
    plain.load_weights(str(checkpoint.weights))
    if isinstance(plain, ParakeetTDT):
        plain.set_dtype(mx.float32)
        frames, _ = plain.encoder(LogMel(plain.preprocessor_config)([clip]))
        mx.eval(frames)  # pyright: ignore[reportUnknownMemberType] - its stub has no types
        began = time.perf_counter()
        plain.decode_beam(frames, config=DecodingConfig(Beam(beam_size=5)))
        print(f"parakeet-mlx's beam of 5, without the encoder: {time.perf_counter() - began:.3f} s")
