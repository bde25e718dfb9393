import numpy as np
import pytest
from numpy.typing import NDArray

from parakeet_service.domain.channels import MOST_CHANNELS, check_channels, without_copies
from parakeet_service.domain.errors import InvalidRequestError

_NOISE = np.random.default_rng(1)


def voice(level: float = 0.1) -> NDArray[np.float32]:
    return (level * _NOISE.standard_normal(16000)).astype(np.float32)


def kept(*channels: NDArray[np.float32]) -> list[bool]:
    given = without_copies(np.stack(channels, axis=1))
    assert all(one is None or np.array_equal(one, channel) for one, channel in zip(given, channels, strict=True))
    return [one is not None for one in given]


def test_different_voices_are_kept() -> None:
    assert kept(voice(), voice()) == [True, True]


def test_a_soft_voice_beside_a_loud_one_is_kept_also_where_the_loud_one_leaks_into_it() -> None:
    loud = voice(0.3)

    assert kept(loud, 0.1 * loud + voice(0.003)) == [True, True]


@pytest.mark.parametrize("copy", [1.0, -1.0, 0.5, 0.01, 1.05])
def test_a_copy_is_read_once_whatever_its_level_and_sign(copy: float) -> None:
    one = voice()

    assert sum(kept(one, np.float32(copy) * one)) == 1


def test_of_equal_channels_the_first_is_kept_and_of_others_the_loudest() -> None:
    one, other = voice(), voice()

    assert kept(one, one, one) == [True, False, False]
    assert kept(np.float32(0.1) * one, one) == [False, True]
    assert kept(other, one, other) == [True, True, False]


def test_silence_is_nothing_and_an_offset_is_silence() -> None:
    silent, offset = np.zeros(16000, np.float32), np.full(16000, 0.1, np.float32)

    assert kept(silent, voice(), offset) == [False, True, False]
    assert kept(voice(0.001) + np.float32(0.2), voice(0.001) + np.float32(0.2)) == [True, True]


def test_many_channels_are_refused() -> None:
    check_channels(MOST_CHANNELS)
    with pytest.raises(InvalidRequestError, match="up to 16 channels; the recording has 17"):
        check_channels(17)
