"""What is packed here comes out there as it was."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from parakeet_service.adapters.inference.decoding import DecoderState
from parakeet_service.adapters.inference.job_queue import Urgency
from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.ray.payload import packed, packed_outcomes, unpacked, unpacked_outcomes
from parakeet_service.adapters.ray.workers import Window
from parakeet_service.application.ports.speech_model import Decoding
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
        (np.zeros(0, np.float32), 2),
        (NOISE, 4),
        (np.ones(10, np.float32), 4),
        (np.concatenate([np.zeros(20000, np.float32), NOISE]), 4),
        (np.array([np.nan, np.inf, 0.5], np.float32), 4),
        (EVERY + np.float32(2**-17), 4),
    ],
)
def test_audio_arrives_to_the_last_bit(samples: Samples, width: int) -> None:
    _, sound = parts = packed([Window(5, EncoderJob(samples), Urgency.LONG)])
    (arrived,) = unpacked(*parts)
    assert arrived.job.samples.dtype == np.float32
    assert_array_equal(arrived.job.samples, samples)
    assert len(sound) == width * len(samples)
    assert (arrived.number, arrived.urgency) == (5, Urgency.LONG)


def test_jobs_of_a_batch_keep_their_own() -> None:
    jobs = [
        EncoderJob(EVERY[:5], first_frame=1),
        EncoderJob(NOISE, begin=3, finalized_until=4, end=9, state=STATE, start_s=2.5, full=77),
        EncoderJob(EVERY[7:20], decoding=Decoding(beam_size=3)),
    ]
    urgencies = [Urgency.LIVE, Urgency.FINAL, Urgency.LONG]
    windows = [Window(9 - at, *of) for at, of in enumerate(zip(jobs, urgencies, strict=True))]
    there = unpacked(*packed(windows))
    assert [window.number for window in there] == [9, 8, 7]
    assert [window.urgency for window in there] == urgencies
    arrived = [window.job for window in there]
    assert [job.decoding for job in arrived] == [job.decoding for job in jobs]
    for one, other in zip(jobs, arrived, strict=True):
        assert_array_equal(one.samples, other.samples)
        assert (one.begin, one.finalized_until, one.end) == (other.begin, other.finalized_until, other.end)
        assert (one.first_frame, one.start_s, one.full) == (other.first_frame, other.start_s, other.full)
    state = arrived[1].state
    assert state is not None
    assert_array_equal(state.hidden, STATE.hidden)
    assert (state.skip, state.last) == (1, 2)


def test_outcomes_arrive() -> None:
    result = DecodeResult((Token(1, "a", 0.0, 0.1, 0.9),), (Token(2, "b", 0.1, 0.2, 0.8),), 4, 5, None)
    live = DecodeResult((), (), 1, 2, STATE)
    (first, second, third) = unpacked_outcomes(
        packed_outcomes([(3, result), (1, InferenceError("The device failed.")), (2, live)])
    )
    assert first == (3, result)
    assert second[0] == 1
    assert isinstance(second[1], InferenceError)
    assert str(second[1]) == "The device failed."
    assert third[0] == 2
    assert isinstance(third[1], DecodeResult)
    assert third[1].state is not None
    assert_array_equal(third[1].state.hidden, STATE.hidden)
