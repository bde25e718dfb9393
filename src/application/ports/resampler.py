"""The port through which live audio of any rate reaches the model's rate."""

from typing import Protocol

from ...domain.audio import Samples


class RateConverter(Protocol):
    """One signal on its way from one rate to another; keeps the filter's state between calls."""

    def resample(self, samples: Samples, *, last: bool = False) -> Samples:
        """Give what can be resampled so far; with `last`, everything that is left. Cheap enough to call inline."""
        ...


class Resampler(Protocol):
    """Makes resampling streams."""

    def open(self, *, from_hz: int, to_hz: int) -> RateConverter:
        """Start a stream; equal rates pass samples through untouched."""
        ...
