"""What every `Resampler` must do."""

from abc import ABC, abstractmethod

import numpy as np
import pytest

from parakeet_service.application.ports.resampler import Resampler
from parakeet_service.domain.audio import NO_SAMPLES, Samples


def tone(frequency_hz: float, *, rate_hz: int, duration_s: float) -> Samples:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(int(rate_hz * duration_s)) / rate_hz)).astype(np.float32)


def resample(resampler: Resampler, samples: Samples, *, from_hz: int, to_hz: int, step: int) -> Samples:
    stream = resampler.open(from_hz=from_hz, to_hz=to_hz)
    parts = [stream.resample(samples[start : start + step]) for start in range(0, len(samples), step)]
    return np.concatenate([*parts, stream.resample(NO_SAMPLES, last=True)])


class ResamplerContract(ABC):
    @abstractmethod
    def make(self) -> Resampler: ...

    def test_equal_rates_change_nothing(self) -> None:
        samples = tone(440, rate_hz=16000, duration_s=0.1)
        assert np.array_equal(resample(self.make(), samples, from_hz=16000, to_hz=16000, step=7), samples)

    @pytest.mark.parametrize("from_hz", [8000, 11025, 22050, 44100, 48000])
    def test_keeps_duration_and_shape(self, from_hz: int) -> None:
        given = resample(
            self.make(), tone(300, rate_hz=from_hz, duration_s=1.0), from_hz=from_hz, to_hz=16000, step=1000
        )
        assert given.dtype == np.float32
        assert given.ndim == 1
        assert abs(len(given) - 16000) <= 1
        expected = tone(300, rate_hz=16000, duration_s=1.0)[: len(given)]
        assert np.abs(given[200:-200] - expected[200 : len(given) - 200]).max() < 0.01

    def test_the_last_push_may_carry_samples(self) -> None:
        samples = tone(300, rate_hz=8000, duration_s=0.5)
        at_once = self.make().open(from_hz=8000, to_hz=16000).resample(samples, last=True)
        assert np.allclose(at_once, resample(self.make(), samples, from_hz=8000, to_hz=16000, step=640), atol=1e-5)

    def test_nothing_in_gives_nothing_out(self) -> None:
        assert self.make().open(from_hz=8000, to_hz=16000).resample(NO_SAMPLES, last=True).shape == (0,)

    def test_streams_do_not_share_state(self) -> None:
        resampler, samples = self.make(), tone(300, rate_hz=48000, duration_s=0.1)
        first, second = (resampler.open(from_hz=48000, to_hz=16000) for _ in range(2))
        first.resample(np.ones(100, np.float32))
        alone = resampler.open(from_hz=48000, to_hz=16000).resample(samples, last=True)
        assert np.array_equal(second.resample(samples, last=True), alone)
