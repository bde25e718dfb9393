"""The log-mel features that Parakeet models read, in numpy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...domain.audio import Samples
from .architecture import FeatureArgs

Floats = NDArray[np.float32]

_WINDOWS = {"hann": np.hanning, "hanning": np.hanning, "hamming": np.hamming, "blackman": np.blackman}
_FLOOR = 1e-5
"""Added to energies before the logarithm, and to deviations before dividing by them."""


class LogMel:
    """Log-mel spectrograms, each normalised over its utterance.

    The numbers are parakeet-mlx's, with which checkpoints for MLX are used: the window of 25 ms stands at the front of
    the 512 points, and magnitude is |re| + |im|. Frames are counted as NeMo does, ``1 + samples // hop``.

    Source: parakeet-mlx 0.7.0 (Apache-2.0), audio.py; NVIDIA NeMo, FilterbankFeatures (Apache-2.0).
    """

    def __init__(self, args: FeatureArgs) -> None:
        """Prepare the window and the mel filter bank.

        Raises:
            ValueError: The checkpoint asks for a window that we do not know.
        """
        if args.window not in _WINDOWS:
            raise ValueError(f"unknown window {args.window!r}")
        self._args = args
        # One more point without the last: the periodic window.
        window = _WINDOWS[args.window](args.win_length + 1)[:-1]
        self._window = np.pad(window, (0, args.n_fft - args.win_length)).astype(np.float32)
        self._filters = mel_filters(args.sample_rate, args.n_fft, args.features).T.copy()

    def count(self, samples: int) -> int:
        """How many frames so many samples give."""
        return 1 + samples // self._args.hop_length

    def __call__(self, windows: Sequence[Samples]) -> tuple[Floats, NDArray[np.int64]]:
        """Features of windows of any lengths, as one batch.

        Args:
            windows: Samples at the model's rate, at least one window.

        Returns:
            Features, shape ``(batch, frames, mels)``, with zeros behind the frames of shorter windows, and how many
            frames of each window count. What is not finite in the samples is not finite here, either.
        """
        counts = np.array([self.count(len(window)) for window in windows])
        features = np.zeros((len(windows), counts.max(), self._args.features), np.float32)
        # What is not finite shows in the result; it is not for numpy to warn of.
        with np.errstate(invalid="ignore", over="ignore"):
            for row, window, count in zip(features, windows, counts, strict=True):
                row[:count] = self._normalised(self._log_mel(window, count))
        return features, counts

    def _log_mel(self, samples: Samples, count: int) -> Floats:
        args = self._args
        signal = self._padded(samples, count)
        frames = np.lib.stride_tricks.sliding_window_view(signal, args.n_fft)[:: args.hop_length][:count]
        spectrum = np.fft.rfft(frames * self._window)
        magnitude = np.abs(spectrum.real) + np.abs(spectrum.imag)
        energy = np.square(magnitude) if args.mag_power == 2 else magnitude ** np.float32(args.mag_power)
        mel: Floats = np.log(energy.astype(np.float32, copy=False) @ self._filters + np.float32(_FLOOR))
        return mel

    def _padded(self, samples: Samples, count: int) -> Floats:
        """High frequencies raised, reflected at both ends, and zeros as far as the last frame reaches."""
        args, half = self._args, self._args.n_fft // 2
        # Reflection needs more samples than it adds; shorter audio is silence after its end.
        signal = np.zeros(max(len(samples), half + 1), np.float32)
        signal[: len(samples)] = samples
        if args.preemph is not None:
            signal[1:] -= np.float32(args.preemph) * signal[:-1]
        reach = (count - 1) * args.hop_length + args.n_fft
        signal = np.pad(signal, half, mode="reflect")
        return np.pad(signal, (0, max(reach - len(signal), 0)))

    def _normalised(self, mel: Floats) -> Floats:
        """Mean 0 and deviation 1, of each mel band or of all."""
        axis = 0 if self._args.normalize == "per_feature" else None
        normalised: Floats = (mel - mel.mean(axis=axis)) / (mel.std(axis=axis) + np.float32(_FLOOR))
        return normalised


def mel_filters(sample_rate_hz: int, n_fft: int, bands: int) -> Floats:
    """Triangles of equal area, evenly spaced on the mel scale from 0 Hz to half the sample rate.

    Source: M. Slaney, Auditory Toolbox (1998): the scale is linear up to 1000 Hz, and logarithmic above.

    Returns:
        Shape ``(bands, n_fft // 2 + 1)``.
    """
    linear_hz, log_from_hz, log_from_mel, log_step = 200 / 3, 1000.0, 15.0, np.log(6.4) / 27
    top_hz = sample_rate_hz / 2
    top_mel = log_from_mel + np.log(top_hz / log_from_hz) / log_step if top_hz >= log_from_hz else top_hz / linear_hz
    mels = np.linspace(0, top_mel, bands + 2)
    edges_hz = np.where(mels < log_from_mel, mels * linear_hz, log_from_hz * np.exp(log_step * (mels - log_from_mel)))
    points_hz = np.linspace(0, top_hz, n_fft // 2 + 1)
    rising = (points_hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    falling = (edges_hz[2:, None] - points_hz) / np.diff(edges_hz)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2 / (edges_hz[2:] - edges_hz[:-2]))[:, None]).astype(np.float32)
