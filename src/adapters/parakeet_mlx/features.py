"""The log-mel features that Parakeet models read: parakeet-mlx's numbers, without its reading past the end."""

import librosa
import mlx.core as mx
import numpy as np
from parakeet_mlx.audio import PreprocessArgs

from ...domain.audio import Samples

_WINDOWS = {"hann": np.hanning, "hanning": np.hanning, "hamming": np.hamming, "blackman": np.blackman}


class LogMel:
    """Log-mel spectrogram, normalised over each utterance.

    Equal to ``parakeet_mlx.audio.get_logmel`` where that is defined: the window of 25 ms stands at the front of
    the 512 points, magnitude is |re| + |im|, power 2. Two things differ. Frames are counted as NeMo does,
    ``1 + samples // hop``; upstream makes one more for most lengths and reads it from beyond the buffer. And
    every sample is finite, or an error is raised.

    Source: parakeet-mlx 0.7.0 (Apache-2.0), audio.py; NVIDIA NeMo, FilterbankFeatures (Apache-2.0).
    """

    def __init__(self, args: PreprocessArgs) -> None:
        """Prepare the window and the mel filter bank.

        Raises:
            ValueError: The checkpoint asks for a window that we do not know.
        """
        if args.window not in _WINDOWS:
            raise ValueError(f"unknown window {args.window!r}")
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

    def __call__(self, samples: Samples) -> mx.array:
        """Features of shape ``(1 + n // hop, mels)``, float32, for `n` samples at the model's rate.

        Raises:
            ValueError: A sample is not finite.
        """
        if not np.isfinite(samples).all():
            raise ValueError("the audio has samples that are not finite")
        args = self._args
        half = args.n_fft // 2
        # Reflection needs more samples than it adds; shorter audio is silence after its end.
        signal = samples if len(samples) > half else np.pad(samples, (0, half + 1 - len(samples)))
        if args.preemph is not None:
            signal = np.concatenate([signal[:1], signal[1:] - np.float32(args.preemph) * signal[:-1]])
        padded = np.pad(signal, half, mode="reflect")
        count = 1 + len(samples) // args.hop_length
        frames = np.lib.stride_tricks.sliding_window_view(padded, args.n_fft)[:: args.hop_length][:count]
        spectrum = mx.fft.rfft(mx.array(frames) * self._window)
        magnitude = mx.abs(spectrum.real) + mx.abs(spectrum.imag)
        mel = mx.log(mx.power(magnitude, args.mag_power) @ self._filters + 1e-5)
        axis = 0 if args.normalize == "per_feature" else None
        mean = mx.mean(mel, axis=axis, keepdims=True)
        std = mx.std(mel, axis=axis, keepdims=True)
        return (mel - mean) / (std + 1e-5)
