import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from parakeet_service.domain.audio import PcmReader
from parakeet_service.entrypoints.wyoming.audio import AudioFormat, MonoReader


@pytest.mark.parametrize(
    ("width", "data"),
    [
        (1, np.array([-128, 64], np.int8).tobytes()),
        (2, np.array([-32768, 16384], "<i2").tobytes()),
        (3, b"\x00\x00\x80\x00\x00\x40"),
        (4, np.array([-(2**31), 2**30], "<i4").tobytes()),
    ],
)
def test_every_width_has_the_same_scale(width: int, data: bytes) -> None:
    audio = AudioFormat.model_validate({"rate": 16000, "width": width, "channels": 1})
    assert PcmReader(audio.encoding).read(MonoReader(audio).read(data)).tolist() == [-1, 0.5]


def test_channels_are_averaged() -> None:
    audio = AudioFormat(rate=16000, width=2, channels=2)
    data = np.array([[16384, 0], [-16384, 16384]], "<i2").tobytes()
    assert PcmReader(audio.encoding).read(MonoReader(audio).read(data)).tolist() == [0.25, 0]


@given(st.binary(max_size=60), st.sampled_from([1, 2, 3, 4]), st.integers(1, 3), st.integers(1, 7))
def test_may_be_split_anywhere(data: bytes, width: int, channels: int, step: int) -> None:
    audio = AudioFormat.model_validate({"rate": 16000, "width": width, "channels": channels})
    reader = MonoReader(audio)
    pieces = b"".join(reader.read(data[at : at + step]) for at in range(0, len(data), step))
    whole = data[: len(data) - len(data) % audio.frame_bytes] if audio.frame_bytes != 2 or channels != 1 else data
    assert pieces == MonoReader(audio).read(whole)


@pytest.mark.parametrize("data", [{}, {"rate": 16000, "width": 2}, {"rate": "16000", "width": 2, "channels": 1}])
def test_refuses_what_says_no_format(data: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AudioFormat.model_validate(data)
