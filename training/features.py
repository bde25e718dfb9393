"""Log-mel features on the GPU, with the variations that are cheapest to make there.

Source: the arithmetic is that of parakeet-mlx 0.7.0 (Apache-2.0), audio.py: pre-emphasis 0.97, a Hann window of 25 ms at
the front of 512 points, reflection at the ends, ``log(x + 1e-5)``, each band normalised over the utterance.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

RATE = 16_000
HOP = 160
_WINDOW = 400
_POINTS = 512


@dataclasses.dataclass(frozen=True, slots=True)
class Variation:
    """How the features of each item differ from the plain ones."""

    hop: int
    """Samples from frame to frame, of the whole batch; more makes speech faster, at the same pitch."""
    warp: Tensor
    """``(batch,)``: factor on the frequencies of the mel bands: more makes the vocal tract longer."""
    gain: Tensor
    """``(batch, 257)``: factor on the magnitude of each frequency."""


def mel_points(mels: int) -> np.ndarray:
    """The ``mels + 2`` corners of the bands, Hz: Slaney's scale, as librosa's default has it."""
    linear, step = 200.0 / 3, np.log(6.4) / 27.0
    top = 1000.0 / linear + np.log(RATE / 2 / 1000.0) / step
    scale = np.linspace(0.0, top, mels + 2)
    return np.where(scale < 1000.0 / linear, scale * linear, 1000.0 * np.exp(step * (scale - 1000.0 / linear)))


def frames_of(lengths: Tensor, hop: int = HOP) -> Tensor:
    """How many frames so many samples give."""
    return lengths // hop + 1


class LogMel:
    """Features of a batch."""

    def __init__(self, device: torch.device, mels: int = 80) -> None:
        self._points = torch.tensor(mel_points(mels), dtype=torch.float32, device=device)
        window = np.zeros(_POINTS, np.float32)
        window[:_WINDOW] = np.hanning(_WINDOW + 1)[:-1]
        self._window = torch.from_numpy(window).to(device)
        self._frequencies = torch.linspace(0, RATE / 2, _POINTS // 2 + 1, device=device)

    def filters(self, warp: Tensor) -> Tensor:
        """``(batch, 257, mels)``: triangles of the same area, their corners moved by the factors `warp`."""
        # Below 80 % of the band by the factor, from there straight to its end, so that nothing leaves it.
        knee = 0.8 * RATE / 2 / torch.clamp(warp, min=1.0)[:, None]
        points = self._points[None]
        upper = (RATE / 2 - knee * warp[:, None]) / (RATE / 2 - knee)
        moved = torch.where(points <= knee, points * warp[:, None], RATE / 2 - (RATE / 2 - points) * upper)
        low, middle, high = moved[:, :-2, None], moved[:, 1:-1, None], moved[:, 2:, None]
        rising = (self._frequencies - low) / (middle - low)
        falling = (high - self._frequencies) / (high - middle)
        return (torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)).transpose(1, 2)

    def __call__(
        self, signal: Tensor, lengths: Tensor, *, magnitude: bool, variation: Variation | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features of float samples.

        Args:
            signal: ``(batch, samples)``, zeros behind the end of each item.
            lengths: Samples of each item, at least 257, on the CPU.
            magnitude: The magnitude of the spectrum, as NeMo has it, not parakeet-mlx's ``|re| + |im|``.
            variation: By default none.

        Returns:
            ``(batch, frames, mels)``, zeros behind the end of each item, and the frames of each item.
        """
        hop = variation.hop if variation else HOP
        counts = frames_of(lengths, hop)
        most = int(counts.max())
        counts, lengths = (value.to(signal.device, non_blocking=True) for value in (counts, lengths))
        raised = torch.cat([signal[:, :1], signal[:, 1:] - 0.97 * signal[:, :-1]], dim=1)
        # Reflected about the first sample, and about the last of each item.
        half = _POINTS // 2
        framed = functional.pad(torch.cat([raised[:, 1 : half + 1].flip(1), raised], dim=1), (0, _POINTS))
        beyond = lengths[:, None] + torch.arange(half, device=signal.device)
        reflected = raised.gather(1, 2 * (lengths[:, None] - 1) - beyond)
        framed = framed.scatter(1, beyond + half, reflected)
        spectrum = torch.fft.rfft(framed.unfold(1, _POINTS, hop)[:, :most] * self._window)
        power = spectrum.abs() if magnitude else spectrum.real.abs() + spectrum.imag.abs()
        if variation:
            power = power * variation.gain[:, None]
        filters = self.filters(variation.warp) if variation else self.filters(torch.ones(1, device=signal.device))
        mel = torch.log(power.square() @ filters + 1e-5)
        keep = (torch.arange(most, device=signal.device) < counts[:, None])[..., None]
        mean = (mel * keep).sum(1, keepdim=True) / counts[:, None, None]
        centred = (mel - mean) * keep
        deviation = (centred.square().sum(1, keepdim=True) / counts[:, None, None]).sqrt()
        return centred / (deviation + 1e-5), counts
