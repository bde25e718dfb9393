import numpy as np
import pytest
from numpy.typing import NDArray

from parakeet_service.application.transcribe_file import FileLimits, Progress, TranscribeFile
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import OverloadedError, RateLimitError
from tests.fakes import LoudnessVad
from tests.unit.application.doubles import RATE_HZ, Decoder, Model, Upload, no_loose_ends, silence, speech

_LIMITS = FileLimits(longest_unchunked_s=10, longest_s=1000, window_s=4, overlap_s=1, timeout_s=600, windows_ahead=2)


class _Charged:
    """Takes what is charged."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def admit(self, caller: str) -> None:
        raise AssertionError(caller)

    async def charge(self, caller: str, audio_s: float) -> None:
        assert caller == "bob"
        self.seconds += audio_s
        raise RateLimitError("enough")


def stereo(left: Samples, right: Samples) -> NDArray[np.float32]:
    length = max(len(left), len(right))
    both = np.zeros((length, 2), np.float32)
    both[: len(left), 0] = left
    both[: len(right), 1] = right
    return both


def transcriber(model: Model, *, channels: int = 2, detects: bool = True) -> TranscribeFile:
    decoder = Decoder()
    decoder.channels = channels
    detector = LoudnessVad() if detects else None
    return TranscribeFile(model, decoder, _LIMITS, detector, _Charged())


def upload(frames: NDArray[np.float32]) -> Upload:
    # Whole frames in each piece.
    return Upload(frames.reshape(-1), piece=frames.shape[1] * 50)


_CALL = stereo(
    np.concatenate([speech(1, 2), silence(3), speech(5, 6), silence(6)]),
    np.concatenate([silence(2), speech(3, 4), silence(3), speech(7, 8, 9)]),
)
"""Two people who take turns."""


async def test_each_channel_is_read_by_itself_and_told_in_turn() -> None:
    transcript = await transcriber(Model(), detects=False)(upload(_CALL), separate=True)

    assert [(one.channel, one.text) for one in transcript.segments] == [
        (0, "w1 w2"),
        (1, "w3 w4"),
        (0, "w5 w6"),
        (1, "w7 w8 w9"),
    ]
    assert transcript.text == "w1 w2 w3 w4 w5 w6 w7 w8 w9"
    assert [word.channel for word in transcript.words] == [0, 0, 1, 1, 0, 0, 1, 1, 1]
    assert [one.start_s for one in transcript.segments] == pytest.approx([0, 2, 4, 6])
    assert transcript.channels == 2
    assert transcript.duration_s == len(_CALL) / RATE_HZ
    assert transcript.of_channel(1).text == "w3 w4 w7 w8 w9"


async def test_dual_mono_is_read_and_charged_once() -> None:
    one = np.concatenate([speech(1, 2), silence(3), speech(3, pause_s=0.5)])
    model, alone = Model(), Model()
    use_case = transcriber(model, detects=False)

    transcript = await use_case(upload(stereo(one, one)), separate=True, caller="bob")
    mono = await transcriber(alone, channels=1, detects=False)(upload(one[:, np.newaxis]))

    assert transcript.text == mono.text == "w1 w2 w3"
    assert {word.channel for word in transcript.words} == {0}
    assert transcript.channels == 2
    assert len(model.windows) == len(alone.windows)
    assert isinstance(use_case.quota, _Charged)
    assert use_case.quota.seconds == transcript.duration_s


async def test_a_channel_that_begins_late_has_the_times_of_the_recording() -> None:
    right = np.concatenate([silence(42), speech(7, pause_s=1)])
    frames = stereo(np.concatenate([speech(1), silence(42)]), right)
    use_case = transcriber(Model(), detects=False)

    transcript = await use_case(upload(frames), separate=True, caller="bob")

    assert [(word.text, word.channel, word.start_s) for word in transcript.words] == [("w1", 0, 0), ("w7", 1, 42)]
    assert isinstance(use_case.quota, _Charged)
    assert use_case.quota.seconds == 2 * transcript.duration_s


async def test_silence_on_all_channels_is_empty() -> None:
    transcript = await transcriber(Model())(upload(stereo(silence(9), silence(9))), separate=True)

    assert (transcript.text, transcript.channels, transcript.duration_s) == ("", 2, 9)


async def test_nothing_at_all_is_empty() -> None:
    transcript = await transcriber(Model())(Upload(silence(0)), separate=True)

    assert (transcript.text, transcript.channels, transcript.duration_s) == ("", 0, 0)


async def test_progress_tells_the_channel() -> None:
    news: list[Progress] = []

    await transcriber(Model(), detects=False)(upload(_CALL), separate=True, on_progress=news.append)

    assert {one.channel for one in news} == {0, 1}
    mixed: list[Progress] = []
    await transcriber(Model(), channels=1)(Upload(speech(1, 2)), on_progress=mixed.append)
    assert {one.channel for one in mixed} == {None}


async def test_an_error_leaves_nothing_behind() -> None:
    async def fails(number: int) -> None:
        if number == 1:
            raise OverloadedError("busy")
        if number > 1:
            raise ValueError

    use_case = transcriber(Model(before=fails), detects=False)
    async with no_loose_ends():
        with pytest.raises((OverloadedError, ValueError)):
            await use_case(upload(_CALL), separate=True)
