"""Brings the frames of a recording to the model's rate: as one channel, or as many as there are."""

import numpy as np
from numpy.typing import NDArray

from ...application.ports.resampler import Resampler
from ...domain.audio import Samples
from ...domain.channels import check_channels
from ...domain.downmix import Downmix


class RateAndChannels:
    """Mixes first, so that mono costs one filter; separate channels have one each."""

    def __init__(self, resampler: Resampler, *, channels: int, from_hz: int, to_hz: int, separate: bool) -> None:
        """Begin before the first frame.

        Raises:
            InvalidRequestError: There are too many channels to keep them separate.
        """
        if separate:
            check_channels(channels)
        self._downmix = None if separate else Downmix(channels=channels, sample_rate_hz=from_hz)
        self._streams = [resampler.open(from_hz=from_hz, to_hz=to_hz) for _ in range(channels if separate else 1)]

    def convert(self, frames: NDArray[np.float32], *, last: bool) -> Samples:
        """Take frames of shape ``(n, channels)``; give shape ``(m,)``, or ``(m, channels)`` if they stay separate."""
        if self._downmix is not None:
            return self._streams[0].resample(self._downmix.mix(frames, last=last), last=last)
        converted = [
            stream.resample(np.ascontiguousarray(frames[:, index]), last=last)
            for index, stream in enumerate(self._streams)
        ]
        return np.stack(converted, axis=1)
