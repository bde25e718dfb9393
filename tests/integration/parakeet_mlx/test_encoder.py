from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray
from parakeet_mlx.parakeet import BaseParakeet

from parakeet_service.adapters.parakeet_mlx.encoder import Encoder, rational_sigmoid
from parakeet_service.adapters.parakeet_mlx.features import LogMel
from parakeet_service.domain.audio import Samples

from .transducers import clip_of

BOTH = [False, True]
"""What is for GPUs runs on a CPU, too, only slower."""


@pytest.fixture(scope="module", autouse=True)
def _uncompiled() -> Iterator[None]:
    """Compiling for a CPU needs a C++ compiler, which not everyone has."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.fixture(scope="module")
def features(model: BaseParakeet, speech: Samples) -> list[mx.array]:
    """Features of spans of speech from 0.1 to 5 seconds, of lengths that divide by nothing."""
    log_mel = LogMel(model.preprocessor_config)
    random = np.random.default_rng(4)
    return [log_mel([clip_of(random, speech, shortest_s=0.1, longest_s=5)])[0] for _ in range(24)]


def numbers(array: mx.array) -> NDArray[np.float32]:
    return np.asarray(array, dtype=np.float32)


@pytest.mark.parametrize("on_gpu", BOTH)
def test_computes_what_parakeet_mlx_computes(model: BaseParakeet, features: list[mx.array], *, on_gpu: bool) -> None:
    encoder = Encoder(model.encoder, on_gpu=on_gpu)
    for item in features:
        upstream, lengths = model.encoder(item[None])
        ours, counts = encoder(item[None], [item.shape[0]])
        assert counts == [int(numbers(lengths)[0])] == [ours.shape[1]]
        np.testing.assert_allclose(numbers(ours), numbers(upstream), atol=1e-5 if on_gpu else 2e-3)


@pytest.mark.parametrize("on_gpu", BOTH)
@pytest.mark.parametrize("padding", [0.0, 7.0])
@pytest.mark.parametrize("seed", range(6))
def test_an_item_of_a_batch_reads_as_it_does_alone(
    model: BaseParakeet, features: list[mx.array], seed: int, padding: float, *, on_gpu: bool
) -> None:
    encoder = Encoder(model.encoder, on_gpu=on_gpu)
    picked: list[int] = np.random.default_rng(seed).integers(len(features), size=5).tolist()
    chosen = [features[i] for i in picked]
    lengths = [item.shape[0] for item in chosen]
    longest = max(lengths) + 16 * seed
    batch = mx.stack([mx.pad(item, [(0, longest - item.shape[0]), (0, 0)], constant_values=padding) for item in chosen])
    together, counts = encoder(batch, lengths)
    for row, item in enumerate(chosen):
        alone, (count,) = encoder(item[None], [item.shape[0]])
        assert counts[row] == count
        np.testing.assert_allclose(numbers(together[row, :count]), numbers(alone[0]), atol=2e-3)


def test_the_rational_sigmoid_is_the_sigmoid() -> None:
    x = np.linspace(-40, 40, 100_001, dtype=np.float32)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(numbers(rational_sigmoid(mx.array(x))), exact, atol=2e-7)
