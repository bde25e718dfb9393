from copy import copy
from dataclasses import replace

import librosa
import numpy as np
import pytest
from parakeet_mlx import ParakeetTDT

from parakeet_service.adapters.inference.checkpoint import locate
from parakeet_service.adapters.onnx.architecture import architecture_of
from parakeet_service.adapters.onnx.log_mel import LogMel, mel_filters
from parakeet_service.adapters.parakeet_mlx.arrays import floats
from parakeet_service.adapters.parakeet_mlx.features import LogMel as MlxLogMel
from parakeet_service.domain.audio import Samples

from .checkpoints import clip_of

ARGS = architecture_of("embedded", locate("embedded", offline=True).config).features
HOP = 160


def mlx_log_mel(model: ParakeetTDT, **changes: object) -> MlxLogMel:
    args = copy(model.preprocessor_config)
    for name, value in changes.items():
        setattr(args, name, value)
    return MlxLogMel(args)


def alone(log_mel: LogMel, samples: Samples) -> Samples:
    features, _ = log_mel([samples])
    item: Samples = features[0]
    return item


@pytest.mark.parametrize("normalize", ["per_feature", "all_features"])
@pytest.mark.parametrize("preemph", [0.97, None])
def test_equals_what_the_mlx_engine_computes(
    model: ParakeetTDT, speech: Samples, normalize: str, preemph: float | None
) -> None:
    args = replace(ARGS, normalize=normalize, preemph=preemph)
    ours, theirs = LogMel(args), mlx_log_mel(model, normalize=normalize, preemph=preemph)
    random = np.random.default_rng(2)
    lengths = [1, 2, HOP, 255, 256, 257, 511, 512]
    # Amid a word: in silence a few frames hardly deviate, and to divide by that enlarges the last bits.
    windows = [speech[24000 : 24000 + length] for length in lengths]
    windows += [clip_of(random, speech, shortest_s=1, longest_s=8) for _ in range(12)]

    features, counts = ours(windows)

    assert counts.tolist() == [theirs.count(len(window)) for window in windows]
    np.testing.assert_allclose(features, floats(theirs(windows)), atol=5e-3)


@pytest.mark.parametrize("window", ["hann", "hamming", "blackman"])
def test_equals_the_mlx_engine_with_every_window(model: ParakeetTDT, speech: Samples, window: str) -> None:
    ours = alone(LogMel(replace(ARGS, window=window)), speech[:20000])
    theirs = mlx_log_mel(model, window=window)([speech[:20000]])
    np.testing.assert_allclose(ours, floats(theirs)[0], atol=2e-3)


def test_refuses_a_window_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="kaiser"):
        LogMel(replace(ARGS, window="kaiser"))


@pytest.mark.parametrize(("rate_hz", "n_fft", "bands"), [(16000, 512, 80), (16000, 512, 128), (8000, 256, 40)])
def test_has_the_usual_mel_filters(rate_hz: int, n_fft: int, bands: int) -> None:
    expected = librosa.filters.mel(sr=rate_hz, n_fft=n_fft, n_mels=bands, fmin=0, fmax=rate_hz / 2, norm="slaney")
    np.testing.assert_allclose(mel_filters(rate_hz, n_fft, bands), expected, atol=1e-7)


def test_an_item_of_a_batch_is_what_it_is_alone(speech: Samples) -> None:
    log_mel = LogMel(ARGS)
    random = np.random.default_rng(3)
    windows = [clip_of(random, speech, shortest_s=0.01, longest_s=3) for _ in range(20)]

    batch, counts = log_mel(windows)

    for row, window, count in zip(batch, windows, counts, strict=True):
        np.testing.assert_array_equal(row[:count], alone(log_mel, window))
        assert not row[count:].any()


@pytest.mark.parametrize("length", [1, 2, HOP - 1, HOP, 255, 256, 257, 512, 4000])
@pytest.mark.parametrize("signal", ["silence", "direct current", "clipping", "one click"])
def test_is_finite_for_every_signal(signal: str, length: int) -> None:
    click = np.zeros(length, np.float32)
    click[length // 2] = 1
    samples = {
        "silence": np.zeros(length, np.float32),
        "direct current": np.ones(length, np.float32),
        "clipping": np.sign(np.sin(np.arange(length, dtype=np.float32))),
        "one click": click,
    }[signal]
    features = alone(LogMel(ARGS), samples)
    assert features.shape == (1 + length // HOP, 80)
    assert features.dtype == np.dtype(np.float32)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_shows_samples_that_are_not_finite_in_their_own_item_alone(speech: Samples, value: float) -> None:
    samples = speech[:16000].copy()
    samples[777] = value
    (spoilt, sound), _ = LogMel(ARGS)([samples, speech[:12000]])
    assert not np.isfinite(spoilt).all()
    assert np.isfinite(sound).all()
