"""Many channels as one, without losing what any of them says."""

import numpy as np
from numpy.typing import NDArray

from .audio import NO_SAMPLES, Samples

_FRAME_S = 0.1
"""In which channels are compared: a syllable or two."""
_REACH_S = 0.02
"""Audio before and after a sample that its shift in phase looks at: frequencies above 50 Hz are shifted rightly."""
_MOST_COMPARED = 64
"""Each channel is compared with each other one; a header that states more channels is hardly true."""
_BRIGHT_HZ = 4_000
"""A difference over half of this frequency's period leaves speech, and a fiftieth of a hum."""
_CANCELLED = 0.5
"""Two channels cancel where their sum has less than this part of the power that independent ones would have."""


class Downmix:
    """Averages channels; once two of them cancel each other, with shifted phases, in which nothing can cancel.

    A plain average is what most recordings want. Where a microphone was wired the other way round it is silence. Each
    channel is then turned by an angle of its own, from 0 to less than 180 degrees: equal and opposite channels are both
    kept, at most 6 dB softer, and independent ones as they were. That stays so until the end.
    """

    def __init__(self, *, channels: int, sample_rate_hz: int) -> None:
        """Begin before the first sample."""
        self._channels = channels
        self._frame = max(int(_FRAME_S * sample_rate_hz), 1)
        self._reach = max(int(_REACH_S * sample_rate_hz), 1)
        angles = np.pi * np.arange(channels) / channels
        self._kept = np.cos(angles).astype(np.float32) / np.float32(channels)
        self._turned = np.sin(angles).astype(np.float32) / np.float32(channels)
        self._step = max(sample_rate_hz // (2 * _BRIGHT_HZ), 1)
        self._waiting = np.zeros((0, channels), np.float32)
        self._before = np.zeros((self._reach, channels), np.float32)  # the samples before `_waiting`
        self.cancels = False

    def mix(self, samples: NDArray[np.float32], *, last: bool) -> Samples:
        """Take the next samples, shape ``(n, channels)``, and give those whose neighbours are known, shape ``(m,)``.

        With `last`, all that are left. In pieces of any size they give the same.
        """
        if self._channels == 1:
            return samples[:, 0]
        self._waiting = np.concatenate([self._waiting, samples])
        given = [NO_SAMPLES]
        while len(self._waiting) >= self._frame + self._reach:
            given.append(self._next(self._frame))
        if last:
            while len(self._waiting):
                given.append(self._next(min(self._frame, len(self._waiting))))
        return np.concatenate(given)

    def _next(self, length: int) -> Samples:
        frame = self._waiting[:length]
        self.cancels = self.cancels or (self._channels <= _MOST_COMPARED and self._cancel(frame))
        if self.cancels:
            after = self._waiting[length : length + self._reach]
            mixed: Samples = (frame @ self._kept).astype(np.float32, copy=False) + self._quarter_turn(
                np.concatenate([self._before, frame, after]), length
            )
        else:
            mixed = frame.mean(axis=1, dtype=np.float32)
        self._before = np.concatenate([self._before, frame])[-self._reach :]
        self._waiting = self._waiting[length:]
        return mixed

    def _cancel(self, frame: NDArray[np.float32]) -> bool:
        # A hum that all channels share is louder than the voices that cancel behind it.
        return _are_opposite(frame) or _are_opposite(frame[self._step :] - frame[: -self._step])

    def _quarter_turn(self, around: NDArray[np.float32], length: int) -> Samples:
        """The channels' share that is turned by 90 degrees: a windowed Hilbert transform."""
        reach = self._reach
        at = np.arange(-reach, reach + 1)
        odd = at % 2 != 0
        response = np.zeros(2 * reach + 1)
        response[odd] = 2 / (np.pi * at[odd])
        response *= np.hamming(2 * reach + 1)
        size = 1 << (len(around) + 2 * reach).bit_length()
        turned = np.fft.irfft(np.fft.rfft(around @ self._turned, size) * np.fft.rfft(response, size), size)
        return turned[2 * reach : 2 * reach + length].astype(np.float32)


def _are_opposite(frame: NDArray[np.float32]) -> bool:
    """Whether some two channels are opposite to each other, more than chance has it."""
    if not len(frame):
        return False
    varying = frame - frame.mean(axis=0)
    products = varying.T @ varying
    powers = np.diag(products)
    independent = powers[:, np.newaxis] + powers
    return bool((independent + 2 * products < _CANCELLED * independent).any())
