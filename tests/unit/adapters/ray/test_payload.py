"""What is packed here comes out there as it was."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from parakeet_service.adapters.inference.decoding import DecoderState
from parakeet_service.adapters.inference.job_queue import Urgency
from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.ray.payload import packed, packed_results, unpacked, unpacked_results
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import InferenceError
from parakeet_service.domain.transcript import Token

STATE = DecoderState(skip=1, last=2, repeats=0, hidden=np.ones((2, 3), np.float32), cell=np.zeros((2, 3), np.float32))
EVERY = np.arange(-32768, 32768, dtype=np.float32) / np.float32(32768)
NOISE = np.random.default_rng(7).standard_normal(1000, np.float32)


@pytest.mark.parametrize(
    ("samples", "width"),
    [
        (EVERY, 2),
        (np.zeros(0, np.float32), 0),
        (NOISE, 4),
        (np.ones(10, np.float32), 4),
        (np.array([np.nan, np.inf, 0.5], np.float32), 4),
        (EVERY + np.float32(2**-17), 4),
    ],
)
def test_audio_arrives_to_the_last_bit(samples: Samples, width: int) -> None:
    _, sound = parts = packed([EncoderJob(samples)], Urgency.LONG)
    ((arrived,), urgency) = unpacked(*parts)
    assert arrived.samples.dtype == np.float32
    assert_array_equal(arrived.samples, samples)
    assert len(sound) == width * len(samples)
    assert urgency is Urgency.LONG


def test_jobs_of_a_batch_keep_their_own() -> None:
    jobs = [
        EncoderJob(EVERY[:5], first_frame=1),
        EncoderJob(NOISE, begin=3, finalized_until=4, end=9, state=STATE, start_s=2.5, full=77),
        EncoderJob(EVERY[7:20]),
    ]
    arrived, _ = unpacked(*packed(jobs, Urgency.LIVE))
    for one, other in zip(jobs, arrived, strict=True):
        assert_array_equal(one.samples, other.samples)
        assert (one.begin, one.finalized_until, one.end) == (other.begin, other.finalized_until, other.end)
        assert (one.first_frame, one.start_s, one.full) == (other.first_frame, other.start_s, other.full)
    state = arrived[1].state
    assert state is not None
    assert_array_equal(state.hidden, STATE.hidden)
    assert (state.skip, state.last) == (1, 2)


def test_results_and_failures_arrive() -> None:
    result = DecodeResult((Token(1, "a", 0.0, 0.1, 0.9),), (), 4, 5, None)
    arrived, failure = unpacked_results(packed_results([result, InferenceError("The device failed.")]))
    assert arrived == result
    assert isinstance(failure, InferenceError)
    assert str(failure) == "The device failed."
