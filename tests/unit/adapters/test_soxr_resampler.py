import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.adapters.soxr_resampler import SoxrResampler
from parakeet_service.domain.audio import NO_SAMPLES, Samples
from tests.contracts.resampler import ResamplerContract, resample, tone


class TestSoxrResampler(ResamplerContract):
    def make(self) -> SoxrResampler:
        return SoxrResampler()


class _Interpolation:
    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._from_hz, self._to_hz, self._kept = from_hz, to_hz, NO_SAMPLES

    def resample(self, samples: Samples, *, last: bool = False) -> Samples:
        if self._from_hz == self._to_hz:
            return samples
        self._kept = np.concatenate([self._kept, samples])
        if not last or not self._kept.size:
            return NO_SAMPLES
        at = np.arange(len(self._kept) * self._to_hz // self._from_hz) * self._from_hz / self._to_hz
        return np.interp(at, np.arange(len(self._kept)), self._kept).astype(np.float32)


class FakeResampler:
    """Interpolates linearly, all at the end."""

    def open(self, *, from_hz: int, to_hz: int) -> _Interpolation:
        return _Interpolation(from_hz, to_hz)


class TestFakeResampler(ResamplerContract):
    def make(self) -> FakeResampler:
        return FakeResampler()


@given(
    from_hz=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96000]),
    length=st.integers(0, 4000),
    step=st.integers(1, 5000),
)
def test_the_split_into_pushes_does_not_matter(from_hz: int, length: int, step: int) -> None:
    samples = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    at_once = resample(SoxrResampler(), samples, from_hz=from_hz, to_hz=16000, step=max(1, length))
    in_steps = resample(SoxrResampler(), samples, from_hz=from_hz, to_hz=16000, step=step)
    assert at_once.shape == in_steps.shape
    assert np.allclose(at_once, in_steps, atol=1e-6)


def test_what_lies_above_the_lower_nyquist_rate_is_removed() -> None:
    given_samples = resample(
        SoxrResampler(), tone(12000, rate_hz=48000, duration_s=1.0), from_hz=48000, to_hz=16000, step=480
    )
    assert np.abs(given_samples[200:-200]).max() < 1e-4
