"""The log-mel features that Parakeet models read: parakeet-mlx's numbers, without its reading past the end."""

from collections.abc import Sequence

import librosa
import mlx.core as mx
import numpy as np
from parakeet_mlx.audio import PreprocessArgs

from ...domain.audio import Samples
from .requirements import UnsupportedModelError

_WINDOWS = {"hann": np.hanning, "hanning": np.hanning, "hamming": np.hamming, "blackman": np.blackman}


class LogMel:
    """Log-mel spectrograms, each normalised over its utterance.

    Equal to ``parakeet_mlx.audio.get_logmel`` where that is defined: the window of 25 ms stands at the front of
    the 512 points, magnitude is |re| + |im|, power 2. One thing differs. Frames are counted as NeMo does,
    ``1 + samples // hop``; upstream makes one more for most lengths and reads it from beyond the buffer, so
    that its features are at times not finite though the samples are.

    Source: parakeet-mlx 0.7.0 (Apache-2.0), audio.py; NVIDIA NeMo, FilterbankFeatures (Apache-2.0).
    """

    def __init__(self, args: PreprocessArgs) -> None:
        """Prepare the window and the mel filter bank.

        Raises:
            UnsupportedModelError: The checkpoint asks for a window that we do not know.
        """
        if args.window not in _WINDOWS:
            raise UnsupportedModelError(f"unknown window {args.window!r}")
        self._args = args
        window = np.zeros(args.n_fft, dtype=np.float32)
        window[: args.win_length] = _WINDOWS[args.window](args.win_length + 1)[:-1]
        filters = librosa.filters.mel(
            sr=args.sample_rate,
            n_fft=args.n_fft,
            n_mels=args.features,
            fmin=0,
            fmax=args.sample_rate / 2,
            norm="slaney",
        )
        self._window = mx.array(window)
        self._filters = mx.array(filters.T.astype(np.float32))

    def count(self, samples: int) -> int:
        """How many frames so many samples give."""
        return 1 + samples // self._args.hop_length

    def __call__(self, windows: Sequence[Samples], *, frames: int | None = None) -> mx.array:
        """Features of windows of any lengths, as one batch.

        Args:
            windows: Samples at the model's rate, at least one window.
            frames: How many frames each item has with its padding; by default as many as the longest needs.

        Returns:
            Shape ``(batch, frames, mels)``, float32; zeros behind the ``1 + n // hop`` frames of `n` samples. What
            is not finite in the samples is not finite here, either.
        """
        args = self._args
        counts = [self.count(len(window)) for window in windows]
        total = frames or max(counts)
        # The last frames end where reflection ends, or a little before.
        signal = np.zeros((len(windows), total * args.hop_length + 2 * args.n_fft), dtype=np.float32)
        for row, window in zip(signal, windows, strict=True):
            self._lay(window, row)
        raised = self._raised(mx.array(signal), [len(window) for window in windows])
        strides = (signal.shape[1], args.hop_length, 1)
        cut = mx.as_strided(raised, (len(windows), total, args.n_fft), strides)
        spectrum = mx.fft.rfft(cut * self._window)
        magnitude = mx.abs(spectrum.real) + mx.abs(spectrum.imag)
        mel = mx.log(mx.power(magnitude, args.mag_power) @ self._filters + 1e-5)
        return self._normalised(mel, counts)

    def _lay(self, samples: Samples, row: Samples) -> None:
        """Write the samples into a row of zeros, and beside them what they are after `_raised`, reflected."""
        begin, end = self._ends(len(samples))
        half = begin
        row[begin : begin + len(samples)] = samples
        slope = np.float32(self._args.preemph or 0)
        row[:begin] = (row[begin + 1 : begin + half + 1] - slope * row[begin : begin + half])[::-1]
        row[end : end + half] = (row[end - half - 1 : end - 1] - slope * row[end - half - 2 : end - 2])[::-1]

    def _ends(self, samples: int) -> tuple[int, int]:
        """Where in a row the signal lies that is reflected at its ends."""
        half = self._args.n_fft // 2
        # Reflection needs more samples than it adds; shorter audio is silence after its end.
        return half, half + max(samples, half + 1)

    def _raised(self, signal: mx.array, lengths: Sequence[int]) -> mx.array:
        """High frequencies raised, between the ends; rows of shape ``(batch, samples)``."""
        if self._args.preemph is None:
            return signal
        begin = self._args.n_fft // 2
        ends = mx.array([self._ends(length)[1] for length in lengths])[:, None]
        places = mx.arange(signal.shape[1])[None]
        before = mx.pad(signal[:, :-1], [(0, 0), (1, 0)])
        return mx.where((places > begin) & (places < ends), signal - self._args.preemph * before, signal)

    def _normalised(self, mel: mx.array, counts: Sequence[int]) -> mx.array:
        """Mean 0 and deviation 1 over the frames that count, of each mel band or of all."""
        axes = (1,) if self._args.normalize == "per_feature" else (1, 2)
        numbers = mx.array(list(counts))[:, None, None] * (1 if len(axes) == 1 else mel.shape[2])
        keep = mx.arange(mel.shape[1])[None, :, None] < mx.array(list(counts))[:, None, None]
        mean = mx.sum(mx.where(keep, mel, 0), axis=axes, keepdims=True) / numbers
        centred = mx.where(keep, mel - mean, 0)
        deviation = mx.sqrt(mx.sum(centred * centred, axis=axes, keepdims=True) / numbers)
        return centred / (deviation + 1e-5)
