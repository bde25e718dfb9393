import numpy as np
import pytest
from numpy.typing import NDArray

from parakeet_service.domain.audio import Samples
from parakeet_service.domain.downmix import Downmix

RATE_HZ = 16_000


def voice(seed: int = 0, duration_s: float = 2.0) -> Samples:
    return np.random.default_rng(seed).normal(0, 0.1, int(duration_s * RATE_HZ)).astype(np.float32)


def mixed(*channels: Samples, step: int = 1000, rate_hz: int = RATE_HZ) -> Samples:
    together: NDArray[np.float32] = np.stack(channels, axis=1)
    downmix = Downmix(channels=len(channels), sample_rate_hz=rate_hz)
    pieces = [downmix.mix(together[at : at + step], last=False) for at in range(0, len(together), step)]
    return np.concatenate([*pieces, downmix.mix(together[:0], last=True)])


def power(samples: Samples) -> float:
    return float(np.square(samples).mean())


def likeness(given: Samples, other: Samples) -> float:
    """Of their spectra, for a shift in phase is not heard."""
    spectra = [np.abs(np.fft.rfft(one)) for one in (given, other)]
    return float(np.corrcoef(np.stack(spectra))[0, 1])


def test_channels_are_averaged() -> None:
    first, second = voice(1), voice(2)
    assert np.allclose(mixed(first, second), (first + second) / 2, atol=1e-7)


def test_one_channel_stays_as_it_is() -> None:
    assert np.array_equal(mixed(voice()), voice())


@pytest.mark.parametrize("share", [1.0, 0.9, 0.6])
def test_opposite_channels_do_not_cancel(share: float) -> None:
    given = mixed(voice(), -np.float32(share) * voice())
    assert power(given) > 0.3 * power(voice())
    assert likeness(given, voice()) > 0.95


@pytest.mark.parametrize("others", [1, 2, 5, 14])
def test_one_opposite_channel_among_many_does_not_take_the_others_away(others: int) -> None:
    given = mixed(*[voice()] * others, -voice())
    assert power(given) > 0.1 * power(voice())
    assert likeness(given, voice()) > 0.9


def test_an_opposite_pair_is_kept_beside_a_louder_channel() -> None:
    hidden, loud = voice(1), np.float32(3) * voice(2)
    given = mixed(hidden, loud, -hidden)
    assert power(given) > (power(loud) + power(hidden)) / 9


def test_a_voice_that_turns_round_on_the_way_is_kept() -> None:
    first, second = voice(1), voice(2)
    given = mixed(np.concatenate([first, second]), np.concatenate([first, -second]))
    assert np.allclose(given[: len(first)], first, atol=1e-6)
    assert power(given[len(first) :]) > 0.3 * power(second)


def test_an_offset_hides_no_opposite_channels() -> None:
    given = mixed(voice() + np.float32(0.3), np.float32(0.3) - voice())
    assert power(given - given.mean()) > 0.3 * power(voice())


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
@pytest.mark.parametrize("hum_hz", [20, 50, 120])
def test_a_hum_that_both_share_hides_no_opposite_channels(hum_hz: int, rate_hz: int) -> None:
    hum = np.float32(0.5) * np.sin(2 * np.pi * hum_hz * np.arange(len(voice())) / rate_hz).astype(np.float32)
    given = mixed(hum + voice(), hum - voice(), rate_hz=rate_hz)
    bright = np.abs(np.fft.rfftfreq(len(given), 1 / rate_hz)) > 300
    loudness = np.abs(np.fft.rfft(given))[bright], np.abs(np.fft.rfft(voice()))[bright]
    assert np.square(loudness[0]).sum() > 0.3 * np.square(loudness[1]).sum()


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_few_samples_have_no_phase(length: int) -> None:
    assert len(mixed(voice()[:length], voice()[:length], rate_hz=48_000)) == length


@pytest.mark.parametrize("step", [1, 7, 1600, 10**6])
def test_pieces_of_any_size_give_the_same(step: int) -> None:
    short = voice(duration_s=0.4)
    expected = mixed(short, -short, voice(3, 0.4))
    assert np.allclose(mixed(short, -short, voice(3, 0.4), step=step), expected, atol=1e-7)


@pytest.mark.parametrize("rate_hz", [4_000, 44_100, 768_000])
def test_gives_as_many_samples_as_it_takes(rate_hz: int) -> None:
    assert mixed(voice(), -voice(), rate_hz=rate_hz).shape == voice().shape


def test_silence_stays_silence() -> None:
    assert not mixed(np.zeros(5000, np.float32), np.zeros(5000, np.float32)).any()
