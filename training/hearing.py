"""From a batch of samples to what the model is to hear of it, and to what its teacher hears."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .augmentation import Augmentation, Strength
from .batches import Batch
from .distillation import at_frames
from .features import HOP, LogMel, frames_of
from .network import SUBSAMPLING, encoded_length
from .teacher import LONGEST


def rounded(size: int) -> int:
    """The next of few sizes, at most an eighth more: what a GPU's library has planned for a shape it need not plan again."""
    unit = 1 << max(0, size.bit_length() - 4)
    return -(-size // unit) * unit


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """A batch as the model hears it."""

    mel: Tensor
    frames: Tensor
    frames_here: Tensor
    """The same on the CPU."""
    earliest: Tensor
    """The encoder's frame before which each label should not come."""
    lesson: tuple[Tensor, Tensor] | None = None
    """The teacher's features at the encoder's frames, and which of them there are."""


class Hearing:
    """Augments, and makes features; one instance a process."""

    def __init__(
        self,
        features: LogMel,
        augmentation: Augmentation,
        teacher: Callable[[Tensor, Tensor], Tensor] | None,
        device: torch.device,
    ) -> None:
        """Put together what is needed; a `teacher` gives features for samples and their numbers, see `Teacher`."""
        self._features, self._augmentation, self._teacher, self._device = features, augmentation, teacher, device

    @torch.no_grad()
    def __call__(self, batch: Batch, factor: float, *, magnitude: bool) -> Heard:
        """Hear a batch.

        Args:
            batch: What there is to hear.
            factor: How much it is augmented, 0 to 1.
            magnitude: See `LogMel`.
        """
        if factor == 0:
            mel, frames = self._features(batch.signal, batch.samples, magnitude=magnitude)
            earliest = (batch.bounds / (SUBSAMPLING * HOP)).round()
            lesson = self._lesson(batch.signal, batch.samples)
            return Heard(mel, frames, frames_of(batch.samples), earliest, lesson)
        strength = Strength().scaled(factor)
        clean, samples = self._augmentation.speed(batch.signal, batch.samples, strength)
        clean = functional.pad(clean, (0, rounded(clean.shape[1]) - clean.shape[1]))
        signal = self._augmentation.surroundings(clean, samples, strength)
        variation = self._augmentation.variation(len(signal), strength)
        mel, frames = self._features(signal, samples, magnitude=magnitude, variation=variation)
        share = samples / batch.samples / (SUBSAMPLING * variation.hop)
        earliest = (batch.bounds * share.to(self._device, non_blocking=True)[:, None]).round()
        mel = self._augmentation.masked(mel, frames, strength)
        mel = functional.pad(mel, (0, 0, 0, rounded(mel.shape[1]) - mel.shape[1]))
        lesson = self._lesson(clean, samples, variation.hop)
        return Heard(mel, frames, frames_of(samples, variation.hop), earliest, lesson)

    def _lesson(self, clean: Tensor, samples: Tensor, hop: int = HOP) -> tuple[Tensor, Tensor] | None:
        if self._teacher is None:
            return None
        # Of what is longer than it can hear the teacher hears the beginning.
        features = self._teacher(clean[:, :LONGEST], samples.clamp(max=LONGEST))
        return at_frames(features, int(encoded_length(frames_of(samples, hop)).max()), hop)
