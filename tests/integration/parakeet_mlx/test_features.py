import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray
from parakeet_mlx.audio import get_logmel
from parakeet_mlx.utils import from_config

from parakeet_service.adapters.inference.checkpoint import locate
from parakeet_service.adapters.parakeet_mlx.features import LogMel
from parakeet_service.domain.audio import Samples

HOP = 160
ARGS = from_config(locate("embedded", offline=True).config).preprocessor_config


@pytest.fixture(scope="module")
def log_mel() -> LogMel:
    return LogMel(ARGS)


def numbers(array: mx.array) -> NDArray[np.float32]:
    return np.asarray(array, dtype=np.float32)


@pytest.mark.parametrize("beyond", range(48))
def test_equals_parakeet_mlx_where_that_stays_inside_the_audio(log_mel: LogMel, speech: Samples, beyond: int) -> None:
    samples = speech[: 20 * HOP * 5 + beyond]
    upstream = numbers(get_logmel(mx.array(samples), ARGS)[0])
    ours = numbers(log_mel([samples])[0])
    assert ours.shape == upstream.shape
    np.testing.assert_allclose(ours, upstream, atol=2e-3)


@pytest.mark.parametrize("beyond", range(HOP))
def test_has_a_frame_per_hop_and_one(log_mel: LogMel, speech: Samples, beyond: int) -> None:
    features = numbers(log_mel([speech[: 3000 + beyond]])[0])
    assert features.shape == (1 + (3000 + beyond) // HOP, 80)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("length", [1, 2, HOP - 1, HOP, 255, 256, 257, 512, 4000])
@pytest.mark.parametrize("signal", ["silence", "direct current", "clipping", "one click", "speech"])
def test_is_finite_for_every_signal(log_mel: LogMel, speech: Samples, signal: str, length: int) -> None:
    click = np.zeros(length, np.float32)
    click[length // 2] = 1
    samples = {
        "silence": np.zeros(length, np.float32),
        "direct current": np.ones(length, np.float32),
        "clipping": np.sign(np.sin(np.arange(length, dtype=np.float32))),
        "one click": click,
        "speech": speech[8000 : 8000 + length],
    }[signal]
    features = numbers(log_mel([samples])[0])
    assert features.shape == (1 + length // HOP, 80)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_shows_samples_that_are_not_finite_in_their_own_item_alone(
    log_mel: LogMel, speech: Samples, value: float
) -> None:
    samples = speech[:16000].copy()
    samples[777] = value
    spoilt, sound = numbers(log_mel([samples, speech[:12000]]))
    assert not np.isfinite(spoilt).all()
    assert np.isfinite(sound).all()


@pytest.mark.parametrize("frames", [None, 200])
def test_an_item_of_a_batch_is_what_it_is_alone(log_mel: LogMel, speech: Samples, frames: int | None) -> None:
    random = np.random.default_rng(3)
    lengths = [1, 255, 256, 257, 16000, *random.integers(300, 30000, size=20).tolist()]
    windows = [speech[(start := int(random.integers(0, 9000))) : start + length] for length in lengths]
    batch = numbers(log_mel(windows, frames=frames))
    assert batch.shape == (25, frames or 1 + max(lengths) // HOP, 80)
    for row, window in zip(batch, windows, strict=True):
        alone = numbers(log_mel([window])[0])
        np.testing.assert_allclose(row[: len(alone)], alone, atol=1e-3)
        assert not row[len(alone) :].any()


def test_is_normalised_for_each_mel_band(log_mel: LogMel, speech: Samples) -> None:
    features = numbers(log_mel([speech])[0])
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-2)
