from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray
from parakeet_mlx import ParakeetTDT
from parakeet_mlx.parakeet import BaseParakeet

from parakeet_service.adapters.onnx.loading import Networks, load
from parakeet_service.adapters.onnx.log_mel import LogMel
from parakeet_service.adapters.onnx.saturation import saturates
from parakeet_service.adapters.parakeet_mlx.arrays import floats
from parakeet_service.adapters.parakeet_mlx.encoder import Encoder
from parakeet_service.domain.audio import Samples

from .checkpoints import clip_of, random_model, save, small_config

Floats = NDArray[np.float32]


def clips(speech: Samples, *, count: int, seed: int) -> list[Samples]:
    random = np.random.default_rng(seed)
    return [clip_of(random, speech, shortest_s=0.1, longest_s=5) for _ in range(count)]


def mlx_encoded(model: BaseParakeet, features: Floats, counts: NDArray[np.int64]) -> tuple[Floats, list[int]]:
    """What the MLX engine's encoder gives, as a transducer's joint network takes it."""
    frames, lengths = Encoder(model.encoder, on_gpu=False)(mx.array(features), counts.tolist())
    projected = model.joint.enc(frames) if isinstance(model, ParakeetTDT) else frames
    return floats(projected), lengths


def test_computes_what_the_mlx_engine_computes(model: ParakeetTDT, float32: Networks, speech: Samples) -> None:
    features, counts = LogMel(float32.architecture.features)(clips(speech, count=8, seed=4))
    expected, expected_lengths = mlx_encoded(model, features, counts)

    encoded, lengths = float32.encoder.encode(features, counts)

    assert lengths == expected_lengths
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(encoded[row, :length], expected[row, :length], atol=2e-3)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("seed", range(4))
def test_an_item_of_a_batch_reads_as_it_does_alone(
    request: pytest.FixtureRequest, speech: Samples, precision: str, seed: int
) -> None:
    networks: Networks = request.getfixturevalue(precision)
    windows = clips(speech, count=5, seed=seed)
    # What is loud beside a quiet window must not coarsen it.
    windows[1], windows[2] = windows[1] * np.float32(0.01), windows[2] * np.float32(3)
    features, counts = LogMel(networks.architecture.features)(windows)
    # What pads an item must not count, whatever it is.
    for row, count in zip(features, counts, strict=True):
        row[count:] = 7

    together, lengths = networks.encoder.encode(features, counts)

    for row, count in enumerate(counts):
        alone, (length,) = networks.encoder.encode(features[row : row + 1, :count], counts[row : row + 1])
        assert length == lengths[row]
        np.testing.assert_allclose(together[row, :length], alone[0], atol=2e-5)


def test_int8_stays_close_to_float32(float32: Networks, int8: Networks, speech: Samples) -> None:
    features, counts = LogMel(float32.architecture.features)(clips(speech, count=8, seed=5))
    exact, lengths = float32.encoder.encode(features, counts)
    rounded, _ = int8.encoder.encode(features, counts)
    # Where products saturate, activations have seven bits.
    most = 0.08 if saturates() else 0.04
    for row, length in enumerate(lengths):
        error = np.square(rounded[row, :length] - exact[row, :length]).mean() / np.square(exact[row, :length]).mean()
        assert 0 < float(np.sqrt(error)) < most


@pytest.mark.parametrize(
    "encoder",
    [
        {"use_bias": True, "xscaling": True, "conv_kernel_size": 5, "n_heads": 2},
        {"subsampling_factor": 4, "ff_expansion_factor": 2, "feat_in": 81},
        {"subsampling_factor": 2, "n_layers": 1},
        {"subsampling_factor": 16},
    ],
)
def test_covers_the_family(tmp_path: Path, encoder: dict[str, Any]) -> None:
    config = small_config(**encoder)
    config["preprocessor"]["features"] = config["encoder"]["feat_in"]
    model = random_model(config)
    checkpoint = save(model, config, tmp_path)
    networks = load("m", config, checkpoint.weights, precision="fp32", cache=tmp_path / "cache", threads=1)
    random = np.random.default_rng(6)
    features = random.normal(0, 1, (3, 200, config["encoder"]["feat_in"])).astype(np.float32)
    counts = np.array([200, 63, 1])

    expected, expected_lengths = mlx_encoded(model, features, counts)
    encoded, lengths = networks.encoder.encode(features, counts)

    assert lengths == expected_lengths
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(encoded[row, :length], expected[row, :length], atol=2e-3)
