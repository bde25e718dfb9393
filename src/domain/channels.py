"""The channels of a recording, each read by itself."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .audio import Samples
from .errors import InvalidRequestError

MOST_CHANNELS = 16
"""Each costs as much as a recording of its own."""
_COPY = 1e-4
"""What is left of a channel, of its power, when a copy of another one is taken out of it: -40 dB."""
_SILENCE = 1e-12
"""The mean power of what rounding leaves of silence: -120 dB."""


def check_channels(count: int) -> None:
    """Refuse what would cost too much.

    Raises:
        InvalidRequestError: There are more channels than are read separately.
    """
    if count > MOST_CHANNELS:
        message = f"channels=separate takes up to {MOST_CHANNELS} channels; the recording has {count}."
        raise InvalidRequestError(message, param="channels")


def without_copies(block: NDArray[np.float32]) -> Sequence[Samples | None]:
    """The channels of `block`, shape ``(n, channels)``; ``None`` for one that is silent or says what another one does.

    Of channels that say the same, such as dual mono, or a line into which the other one leaks, the loudest is kept, and
    the first of equally loud ones.
    """
    channels = [np.ascontiguousarray(block[:, index]) for index in range(block.shape[1])]
    # Without their means: an offset is no sound, and would make all channels alike.
    sounds = [one - one.mean() for one in channels]
    powers = [float(np.dot(sound, sound)) for sound in sounds]
    kept: list[int] = []
    for index in sorted(range(len(channels)), key=lambda index: (-_decibels(powers[index]), index)):
        power = powers[index]
        products = [(float(np.dot(sounds[index], sounds[other])), powers[other]) for other in kept]
        is_copy = any(power - product**2 / louder <= _COPY * power for product, louder in products)
        if power > _SILENCE * len(block) and not is_copy:
            kept.append(index)
    return [channel if index in kept else None for index, channel in enumerate(channels)]


def _decibels(power: float) -> int:
    """To the decibel: rounding makes copies differ by less."""
    return round(10 * float(np.log10(power + 1e-12)))
