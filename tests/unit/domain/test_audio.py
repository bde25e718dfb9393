from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parakeet_service.domain.audio import NO_SAMPLES, Encoding, PcmReader, Samples, is_silence

_ENCODINGS = st.sampled_from(Encoding)


def _read(encoding: Encoding, *frames: bytes) -> Samples:
    reader = PcmReader(encoding)
    return np.concatenate([NO_SAMPLES, *(reader.read(frame) for frame in frames)])


def _mulaw_by_definition() -> dict[int, float]:
    """G.711, table 2a: the values decoded are the middles of the intervals between the decision values."""
    decisions = list(accumulate([1, *[2] * 15, *(2**segment for segment in range(2, 9) for _ in range(16))], initial=0))
    levels = [0.0, *((low + high) / 2 for low, high in list(pairwise(decisions))[1:])]
    assert decisions[-1] == 8159
    assert len(levels) == 128
    positive = {0xFF - n: level / 8192 for n, level in enumerate(levels)}
    return positive | {code - 0x80: -level for code, level in positive.items()}


def _alaw_by_definition() -> dict[int, float]:
    """G.711, table 1a; the even bits are inverted on the line."""
    decisions = list(accumulate([*[2] * 32, *(2**segment for segment in range(2, 8) for _ in range(16))], initial=0))
    levels = [(low + high) / 2 for low, high in pairwise(decisions)]
    assert decisions[-1] == 4096
    assert len(levels) == 128
    positive = {(0x80 + n) ^ 0x55: level / 4096 for n, level in enumerate(levels)}
    return positive | {code ^ 0x80: -level for code, level in positive.items()}


@pytest.mark.parametrize(
    ("encoding", "table"), [(Encoding.MULAW, _mulaw_by_definition()), (Encoding.ALAW, _alaw_by_definition())]
)
def test_decodes_each_telephone_code_as_g711_says(encoding: Encoding, table: dict[int, float]) -> None:
    assert sorted(table) == list(range(256))

    samples = _read(encoding, bytes(range(256)))

    assert samples.dtype == np.float32
    assert samples.tolist() == [table[code] for code in range(256)]


@given(st.lists(st.integers(-32768, 32767)))
@example([-32768, 0, 32767])
def test_16_bit_samples_survive(numbers: list[int]) -> None:
    samples = _read(Encoding.PCM_S16LE, np.array(numbers, "<i2").tobytes())

    assert samples.dtype == np.float32
    assert (samples * 32768).tolist() == numbers
    assert np.all(np.abs(samples) <= 1)


@given(st.lists(st.floats(-1, 1, width=32)))
def test_float_samples_survive(numbers: list[float]) -> None:
    samples = _read(Encoding.PCM_F32LE, np.array(numbers, "<f4").tobytes())

    assert samples.dtype == np.float32
    assert samples.tolist() == numbers


def test_float_samples_that_are_not_finite_are_silence_and_loud_ones_are_clipped() -> None:
    wild = np.array([np.nan, np.inf, -np.inf, 1.5, -3e38, 0.25], "<f4")

    assert _read(Encoding.PCM_F32LE, wild.tobytes()).tolist() == [0, 0, 0, 1, -1, 0.25]


@given(_ENCODINGS, st.lists(st.binary(max_size=9)))
@example(Encoding.PCM_S16LE, [b"\x01", b"\x02\x03", b"", b"\x04"])
@example(Encoding.PCM_F32LE, [b"\x00\x00", b"\x80", b"\x3f\x00"])
def test_frames_may_be_split_anywhere(encoding: Encoding, frames: list[bytes]) -> None:
    data = b"".join(frames)

    samples = _read(encoding, *frames)

    assert len(samples) == len(data) // encoding.sample_bytes
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, _read(encoding, data))
    assert np.all(np.abs(samples) <= 1)


@given(_ENCODINGS, st.lists(st.binary(max_size=9)))
def test_tells_whether_a_sample_is_incomplete(encoding: Encoding, frames: list[bytes]) -> None:
    reader = PcmReader(encoding)
    received = 0
    for frame in frames:
        reader.read(frame)
        received += len(frame)
        assert reader.has_partial_sample == (received % encoding.sample_bytes > 0)


@pytest.mark.parametrize("encoding", Encoding)
def test_samples_may_be_written_to(encoding: Encoding) -> None:
    samples = _read(encoding, bytes(8))
    samples[0] = 0.5

    assert _read(encoding, bytes(8))[0] != 0.5


class TestSilence:
    @pytest.mark.parametrize("offset", [0.0, 0.1, -1.0])
    def test_is_what_sixteen_bits_round_to_nothing(self, offset: float) -> None:
        steps = np.random.default_rng(0).integers(-1, 2, 1000) / 32768

        assert is_silence((offset + steps).astype(np.float32), 1000)

    @pytest.mark.parametrize("level_db", [-40, -60, -80])
    def test_is_no_matter_of_loudness(self, level_db: float) -> None:
        noise = np.random.default_rng(0).normal(0, 10 ** (level_db / 20), 1000)

        assert not is_silence(noise.astype(np.float32), 1000)

    def test_nothing_is_silent(self) -> None:
        assert is_silence(NO_SAMPLES, 1000)

    @pytest.mark.parametrize("at", [0, 450, 950])
    def test_ends_with_the_shortest_word(self, at: int) -> None:
        samples = np.zeros(1000, np.float32)
        samples[at : at + 50] = 0.01

        assert not is_silence(samples, 1000)

    def test_is_not_ended_by_a_click(self) -> None:
        samples = np.zeros(1000, np.float32)
        samples[500] = 2e-4

        assert is_silence(samples, 1000)
