import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.application.ports.speech_model import Decoding
from parakeet_service.application.ports.voice_activity_detector import VoiceActivityDetector
from parakeet_service.application.transcribe_file import FileLimits, Progress, TranscribeFile
from parakeet_service.domain.audio import NO_SAMPLES, Samples
from parakeet_service.domain.errors import (
    AudioTooLongError,
    InferenceError,
    InvalidRequestError,
    ModelNotReadyError,
    OverloadedError,
    ProcessingTimeoutError,
    UndecodableAudioError,
)
from parakeet_service.domain.transcript import Transcript
from parakeet_service.domain.vad import Probabilities, VadParams
from tests.fakes import LoudnessVad
from tests.unit.application.doubles import (
    RATE_HZ,
    WORD_S,
    Decoder,
    Model,
    Upload,
    no_loose_ends,
    silence,
    speech,
    text_of,
    turns,
)

_LIMITS = FileLimits(longest_unchunked_s=10, longest_s=100, window_s=4, overlap_s=1, timeout_s=600, windows_ahead=2)
_FORTY = speech(*range(40))
"""Twenty seconds without a pause; windows begin at 0, 3, 6 ... seconds."""


def _use_case(
    model: Model,
    *,
    decoder: Decoder | None = None,
    limits: FileLimits = _LIMITS,
    detector: VoiceActivityDetector | None = None,
) -> TranscribeFile:
    return TranscribeFile(model, decoder or Decoder(), limits, detector)


def _stopped(model: Model, decoder: Decoder) -> bool:
    return model.running == decoder.open_now == decoder.reading == 0


async def _never(_: int) -> None:
    await asyncio.Event().wait()


def _fails(at: int, error: Exception) -> Callable[[int], Awaitable[None]]:
    """Windows before that one are read, those behind it never."""

    async def before(number: int) -> None:
        if number == at:
            raise error
        if number > at:
            await _never(number)

    return before


async def _endless() -> AsyncGenerator[bytes]:
    number = 0
    while True:
        yield speech(number).tobytes()
        number += 1
        await asyncio.sleep(0)


class TestText:
    @given(
        st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.3, 2.0]), max_size=60),
        st.integers(3, 8),
        st.sampled_from([1.0, 1.5]),
        st.integers(1, 4),
        st.integers(1, 900),
    )
    async def test_has_each_word_once_and_in_order(
        self, pauses: list[float], window_s: int, overlap_s: float, ahead: int, piece: int
    ) -> None:
        parts = [speech(number, pause_s=pause_s) for number, pause_s in enumerate(pauses)]
        recording = np.concatenate([NO_SAMPLES, *parts])
        limits = replace(_LIMITS, window_s=window_s, overlap_s=overlap_s, windows_ahead=ahead)

        transcript = await _use_case(Model(), limits=limits)(Upload(recording, piece=piece))

        assert transcript.text == text_of(range(len(pauses)))
        assert transcript.duration_s == len(recording) / RATE_HZ

    async def test_has_times_of_the_recording(self) -> None:
        transcript = await _use_case(Model())(Upload(_FORTY))

        assert [word.start_s for word in transcript.words] == pytest.approx([at * WORD_S for at in range(40)])

    async def test_silence_is_empty(self) -> None:
        assert await _use_case(Model())(Upload(silence(9))) == Transcript((), (), 9)

    async def test_of_words_at_the_end_lies_in_the_recording(self) -> None:
        transcript = await _use_case(Model())(Upload(speech(1, 2)))

        assert transcript.words[-1].end_s <= transcript.duration_s == 1
        assert transcript.segments[0].text == "w1 w2"


class TestWindows:
    async def test_may_be_read_in_any_order(self) -> None:
        second = asyncio.Event()

        async def before(number: int) -> None:
            if number == 0:
                await second.wait()
            second.set()

        transcript = await _use_case(Model(before=before))(Upload(_FORTY))

        assert transcript.text == text_of(range(40))

    async def test_only_so_many_are_with_the_model_and_the_upload_waits(self) -> None:
        gate = asyncio.Event()
        model, upload = Model(before=lambda _: gate.wait()), Upload(_FORTY)
        reading = asyncio.create_task(_use_case(model)(upload))

        await turns()

        assert model.running == 2
        # The third one, from 6 s to 10 s, is known once half a window has followed it.
        # The third one, from 6 s to 10 s, is known once half a window has followed it. By then one block more is heard, and the
        # next one decoded.
        assert upload.pulled_s == 20
        gate.set()
        assert (await reading).text == text_of(range(40))
        assert model.most_running == 2

    @pytest.mark.parametrize(("batch_size", "ahead"), [(1, 1), (3, 3), (64, 32)])
    async def test_where_no_number_is_set_the_model_has_a_batch_of_them(self, batch_size: int, ahead: int) -> None:
        gate = asyncio.Event()
        model = Model(before=lambda _: gate.wait(), batch_size=batch_size)
        limits = replace(_LIMITS, windows_ahead=None, longest_s=200)
        reading = asyncio.create_task(_use_case(model, limits=limits)(Upload(speech(*range(300)))))

        await turns(300)

        assert model.running == ahead
        gate.set()
        assert (await reading).text == text_of(range(300))

    async def test_are_no_longer_than_was_set(self) -> None:
        model = Model()
        await _use_case(model)(Upload(_FORTY))

        assert max(len(window) for window in model.windows) == 4 * RATE_HZ

    @pytest.mark.parametrize("chunked", [True, False])
    async def test_are_no_longer_than_the_model_reads_well(self, *, chunked: bool) -> None:
        model = Model(max_window_s=3)

        transcript = await _use_case(model)(Upload(_FORTY[:1000]), chunked=chunked)

        assert max(len(window) for window in model.windows) == 3 * RATE_HZ
        assert transcript.text == text_of(range(20))

    async def test_without_chunking_there_is_one(self) -> None:
        model = Model()

        transcript = await _use_case(model)(Upload(_FORTY[:1000]), chunked=False)

        assert [len(window) for window in model.windows] == [1000]
        assert transcript.text == text_of(range(20))

    async def test_tell_the_model_how_much_came_before_and_how_to_read(self) -> None:
        model, decoding = Model(), Decoding(beam_size=3, phrases=("Parakeet",))

        await _use_case(model)(Upload(_FORTY), decoding=decoding)

        assert [after_s for after_s, _ in model.asked] == [3.0 * at for at in range(len(model.windows))]
        assert {asked for _, asked in model.asked} == {decoding}

    async def test_are_cut_in_pauses(self) -> None:
        model = Model()
        recording = speech(*range(10), pause_s=0.4)

        await _use_case(model)(Upload(recording))

        assert sum(len(window) for window in model.windows) == len(recording)


class TestTooLong:
    async def test_is_refused_before_all_is_read(self) -> None:
        model, decoder, upload = Model(), Decoder(), Upload(_FORTY)

        with pytest.raises(AudioTooLongError) as caught:
            await _use_case(model, decoder=decoder, limits=replace(_LIMITS, longest_s=8))(upload)

        assert caught.value.details == {"limit_s": 8, "duration_s": 8.5}
        assert "should_chunk" not in caught.value.message
        assert upload.pulled_s == 8.5
        assert _stopped(model, decoder)

    async def test_without_chunking_has_its_own_limit(self) -> None:
        with pytest.raises(AudioTooLongError) as caught:
            await _use_case(Model())(Upload(_FORTY), chunked=False)

        assert caught.value.details == {"limit_s": 10, "duration_s": 10.5}
        assert caught.value.chunking_helps

    async def test_without_chunking_the_other_limit_holds_too(self) -> None:
        with pytest.raises(AudioTooLongError) as caught:
            await _use_case(Model(), limits=replace(_LIMITS, longest_s=8))(Upload(_FORTY), chunked=False)

        assert caught.value.details["limit_s"] == 8

    @pytest.mark.parametrize("chunked", [True, False])
    async def test_the_limit_itself_is_taken(self, *, chunked: bool) -> None:
        limits = replace(_LIMITS, longest_unchunked_s=20, longest_s=20)

        assert (await _use_case(Model(), limits=limits)(Upload(_FORTY), chunked=chunked)).duration_s == 20


class TestProgress:
    async def test_is_told_after_each_window(self) -> None:
        model, told = Model(), list[Progress]()

        transcript = await _use_case(model)(Upload(_FORTY), on_progress=told.append)

        assert len(told) == len(model.windows)
        done = [progress.done_s for progress in told]
        assert done == sorted(set(done))
        assert done[-1] == 20
        assert [word.text for news in told for word in news.finalized] == [word.text for word in transcript.words]
        assert all((*progress.finalized, *progress.draft)[-1].end_s <= progress.done_s for progress in told)

    async def test_final_is_what_the_next_window_will_not_read_again(self) -> None:
        told = list[Progress]()

        await _use_case(Model())(Upload(_FORTY), on_progress=told.append)

        # The second window begins at 3 s: two readings of one word may lie half a second apart.
        assert [word.text for word in told[0].finalized] == [f"w{number}" for number in range(5)]
        assert [word.text for word in told[0].draft] == ["w5", "w6", "w7"]
        assert told[-1].draft == ()

    async def test_all_is_final_where_a_pause_parts_the_windows(self) -> None:
        told = list[Progress]()
        recording = np.concatenate([speech(*range(5)), silence(1), speech(*range(5, 12))])

        await _use_case(Model())(Upload(recording), on_progress=told.append)

        assert [word.text for word in told[0].finalized] == [f"w{number}" for number in range(5)]
        assert told[0].draft == ()

    @given(st.lists(st.sampled_from([0.0, 0.0, 0.3]), min_size=1, max_size=60), st.sampled_from([1.0, 1.5]))
    async def test_what_is_final_is_the_beginning_of_the_text(self, pauses: list[float], overlap_s: float) -> None:
        recording = np.concatenate([speech(number, pause_s=pause_s) for number, pause_s in enumerate(pauses)])
        told, limits = list[Progress](), replace(_LIMITS, overlap_s=overlap_s)

        transcript = await _use_case(Model(), limits=limits)(Upload(recording), on_progress=told.append)

        assert [word.text for news in told for word in news.finalized] == [word.text for word in transcript.words]

    async def test_does_not_wait_for_the_end(self) -> None:
        told = asyncio.Event()

        async def source() -> AsyncGenerator[bytes]:
            async for data in Upload(_FORTY):
                yield data
                await asyncio.sleep(0)
            await told.wait()

        limits = replace(_LIMITS, windows_ahead=100)
        assert await _use_case(Model(), limits=limits)(source(), on_progress=lambda _: told.set())

    async def test_an_error_of_the_listener_stops_everything(self) -> None:
        second = asyncio.Event()

        async def before(number: int) -> None:
            if number:
                second.set()
                await _never(number)
            await second.wait()

        model, decoder = Model(before=before), Decoder()

        def listen(_: Progress) -> None:
            raise LookupError

        async with no_loose_ends():
            with pytest.raises(LookupError):
                await _use_case(model, decoder=decoder)(Upload(_FORTY), on_progress=listen)

            assert _stopped(model, decoder)
        assert model.cancelled == 1


class TestCancelled:
    async def test_windows_leave_the_model_and_the_decoder_is_closed(self) -> None:
        model, decoder = Model(before=_never), Decoder()

        async with no_loose_ends():
            reading = asyncio.create_task(_use_case(model, decoder=decoder)(Upload(speech(*range(100)))))
            await turns()
            assert (model.running, decoder.open_now, decoder.reading) == (2, 1, 1)

            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

            assert _stopped(model, decoder)
        assert model.cancelled == 2

    async def test_while_the_upload_is_awaited(self) -> None:
        model, decoder = Model(before=_never), Decoder()

        async def source() -> AsyncGenerator[bytes]:
            yield _FORTY[:800].tobytes()
            await _never(0)

        async with no_loose_ends():
            reading = asyncio.create_task(_use_case(model, decoder=decoder)(source()))
            await turns()
            assert (model.running, decoder.reading) == (1, 1)

            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

            assert _stopped(model, decoder)


@pytest.mark.leaping_clock
class TestTimeLimit:
    @pytest.mark.parametrize("samples", [_FORTY, _FORTY[:100]], ids=["long", "short"])
    async def test_stops_everything(self, samples: Samples) -> None:
        model, decoder = Model(before=_never), Decoder()

        async with no_loose_ends():
            with pytest.raises(ProcessingTimeoutError) as caught:
                await _use_case(model, decoder=decoder, limits=replace(_LIMITS, timeout_s=120))(Upload(samples))

            assert _stopped(model, decoder)
        assert caught.value.details == {"limit_s": 120}
        assert model.cancelled == len(model.windows) > 0

    async def test_holds_while_the_upload_is_awaited_too(self) -> None:
        async def source() -> AsyncGenerator[bytes]:
            await _never(0)
            yield b""

        with pytest.raises(ProcessingTimeoutError):
            await _use_case(Model(), limits=replace(_LIMITS, timeout_s=120))(source())

    async def test_another_time_out_is_not_ours(self) -> None:
        with pytest.raises(TimeoutError, match="theirs"):
            await _use_case(Model())(Upload(_FORTY, error=TimeoutError("theirs")))


class TestOverload:
    async def test_turns_a_new_recording_away(self) -> None:
        model, decoder = Model(before=_fails(0, OverloadedError("Busy.", retry_after_s=3))), Decoder()

        async with no_loose_ends():
            with pytest.raises(OverloadedError) as caught:
                await _use_case(model, decoder=decoder)(Upload(_FORTY))

            assert _stopped(model, decoder)
        assert caught.value.retry_after_s == 3

    async def test_a_recording_that_was_let_in_waits_its_turn(self) -> None:
        async def before(number: int) -> None:
            if number in {1, 2, 4}:
                raise OverloadedError("Busy.", retry_after_s=0)

        model = Model(before=before)
        transcript = await _use_case(model)(Upload(_FORTY))

        assert transcript.text == text_of(range(40))
        calm = Model()
        await _use_case(calm)(Upload(_FORTY))
        assert len(model.windows) == len(calm.windows) + 3

    async def test_it_waits_as_long_as_it_was_told(self) -> None:
        async def before(number: int) -> None:
            if number:
                raise OverloadedError("Busy.", retry_after_s=3600)

        model, decoder = Model(before=before), Decoder()
        reading = asyncio.create_task(_use_case(model, decoder=decoder)(Upload(_FORTY)))
        await turns()

        assert not reading.done()
        # The second and the third window were tried once each.
        assert len(model.windows) == 3
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert _stopped(model, decoder)


class TestErrors:
    async def test_of_the_model_pass_and_stop_the_rest(self) -> None:
        model, decoder = Model(before=_fails(1, InferenceError("It broke."))), Decoder()

        async with no_loose_ends():
            with pytest.raises(InferenceError, match="It broke"):
                await _use_case(model, decoder=decoder)(Upload(_FORTY))

            assert _stopped(model, decoder)
        assert model.cancelled == len(model.windows) - 2

    async def test_of_the_model_are_seen_before_the_upload_ends(self) -> None:
        limits = replace(_LIMITS, windows_ahead=1000, longest_s=1e6)

        async with no_loose_ends(), aclosing(_endless()) as upload:
            with pytest.raises(InferenceError):
                await _use_case(Model(before=_fails(0, InferenceError("It broke."))), limits=limits)(upload)

    async def test_of_two_windows_the_first_is_told(self) -> None:
        async def before(number: int) -> None:
            raise InferenceError(f"AudioWindow {number} broke.")

        async with no_loose_ends():
            with pytest.raises(InferenceError, match="AudioWindow 0"):
                await _use_case(Model(before=before))(Upload(_FORTY))

    async def test_of_the_decoder_pass_and_stop_the_windows(self) -> None:
        model, decoder = Model(before=_never), Decoder()
        upload = Upload(_FORTY[:950], error=UndecodableAudioError("No audio."))

        async with no_loose_ends():
            with pytest.raises(UndecodableAudioError, match="No audio"):
                await _use_case(model, decoder=decoder)(upload)

            assert _stopped(model, decoder)

    async def test_a_model_that_is_not_ready_keeps_the_decoder_out_of_it(self) -> None:
        decoder = Decoder()

        with pytest.raises(ModelNotReadyError):
            await _use_case(Model(not_ready=ModelNotReadyError("Loading.")), decoder=decoder)(Upload(_FORTY))

        assert decoder.opened == 0


async def test_recordings_do_not_disturb_each_other() -> None:
    use_case = _use_case(Model())
    recordings = [speech(*range(begin, begin + 30)) for begin in range(0, 300, 100)]

    transcripts = await asyncio.gather(*(use_case(Upload(recording)) for recording in recordings))

    assert [transcript.text for transcript in transcripts] == [text_of(range(at, at + 30)) for at in range(0, 300, 100)]


def _hiss(seconds: float) -> Samples:
    """Noise that the detector takes for none; the model would be given it."""
    return np.full(round(seconds * RATE_HZ), 0.1, np.float32)


class _BrokenDetector:
    """Fails at the third block, if it is heard in a thread of its own."""

    def __init__(self) -> None:
        self.calls = 0

    def load(self) -> None:
        """There is nothing to load."""

    def open(self, *, sample_rate_hz: int) -> "_BrokenDetector":
        assert sample_rate_hz == RATE_HZ
        return self

    @property
    def frame(self) -> int:
        return 5

    async def score(self, samples: Samples) -> Probabilities:
        self.calls += 1
        if self.calls == 3:
            raise InferenceError("It broke.")
        return np.ones(len(samples) // 5, np.float32)


class TestSpeech:
    @given(
        st.lists(st.sampled_from([0.0, 0.0, 0.3, 1.0, 3.0]), max_size=30),
        st.integers(3, 8),
        st.integers(1, 4),
        st.integers(20, 900),
    )
    async def test_is_all_that_the_model_is_given_and_all_of_it_is(
        self, pauses: list[float], window_s: int, ahead: int, piece: int
    ) -> None:
        parts = [part for number, pause_s in enumerate(pauses) for part in (speech(number), _hiss(pause_s))]
        recording = np.concatenate([_hiss(5), *parts])
        model, limits = Model(), replace(_LIMITS, window_s=window_s, windows_ahead=ahead)

        transcript = await _use_case(model, limits=limits, detector=LoudnessVad())(Upload(recording, piece=piece))

        assert transcript.text == text_of(range(len(pauses)))
        assert transcript.duration_s == pytest.approx(len(recording) / RATE_HZ)
        begins = 5 + np.cumsum([0, *(WORD_S + pause_s for pause_s in pauses)])
        # A window may begin in a word, of which the model hears the rest.
        assert [word.start_s for word in transcript.words] == pytest.approx(begins[:-1].tolist(), abs=WORD_S / 2)
        hiss_s = sum(int((window < 0.25).sum()) for window in model.windows) / RATE_HZ
        # Half a second on either side of a long pause; and what windows share is read twice.
        assert hiss_s <= 2 * (0.5 + sum(min(pause_s, 1.0) for pause_s in pauses))

    @pytest.mark.parametrize("chunked", [True, False])
    async def test_without_it_there_is_no_inference(self, *, chunked: bool) -> None:
        model = Model()

        transcript = await _use_case(model, detector=LoudnessVad())(Upload(_hiss(9)), chunked=chunked)

        assert model.windows == []
        assert transcript == Transcript((), (), 9)

    async def test_in_one_window_has_its_pauses(self) -> None:
        model = Model()
        recording = np.concatenate([_hiss(2), speech(1), _hiss(4), speech(2), _hiss(2)])

        transcript = await _use_case(model, detector=LoudnessVad())(Upload(recording), chunked=False)

        (window,) = model.windows
        assert 5 <= len(window) / RATE_HZ <= 7
        assert transcript.text == "w1 w2"

    async def test_that_is_parted_by_long_pauses_makes_a_segment_each(self) -> None:
        recording = np.concatenate([speech(1), _hiss(4), speech(2)])

        transcript = await _use_case(Model(), detector=LoudnessVad())(Upload(recording))

        assert [(segment.text, segment.start_s) for segment in transcript.segments] == [("w1", 0.0), ("w2", 4.5)]

    async def test_is_parted_as_was_asked(self) -> None:
        recording = np.concatenate([speech(1), _hiss(0.3), speech(2), _hiss(0.6), speech(3)])
        calm, asked = Model(), Model()

        await _use_case(calm, detector=LoudnessVad())(Upload(recording))
        await _use_case(asked, detector=LoudnessVad())(
            Upload(recording), detection=VadParams(threshold=0.5, prefix_padding_s=0.1, silence_s=0.4)
        )

        assert len(calm.windows) == 1
        assert [(after_s, len(window)) for (after_s, _), window in zip(asked.asked, asked.windows, strict=True)] == [
            (0.0, 130 + 20),
            (pytest.approx(1.8), 60),
        ]

    @pytest.mark.parametrize(("pause_s", "windows"), [(0.8, 2), (2.0, 1)])
    async def test_is_parted_by_pauses_that_the_model_would_rather_not_read(self, pause_s: float, windows: int) -> None:
        recording = np.concatenate([speech(1), _hiss(1.2), speech(2)])
        model = Model(pause_s=pause_s)

        transcript = await _use_case(model, detector=LoudnessVad())(Upload(recording))

        assert len(model.windows) == windows
        assert [word.text for word in transcript.words] == ["w1", "w2"]
        assert [word.start_s for word in transcript.words] == pytest.approx([0.0, 1.7])

    async def test_that_is_long_is_cut_at_a_breath_though_the_breath_is_not_quiet(self) -> None:
        model = Model()
        recording = np.concatenate([speech(*range(5)), _hiss(0.3), speech(*range(5, 10))])

        transcript = await _use_case(model, detector=LoudnessVad())(Upload(recording))

        assert len(model.windows) == 2
        assert sum(len(window) for window in model.windows) <= len(recording)
        assert transcript.text == text_of(range(10))

    async def test_in_one_window_is_not_cut_at_a_breath(self) -> None:
        model = Model()
        recording = np.concatenate([speech(*range(12)), _hiss(0.3), speech(*range(12, 18))])

        await _use_case(model, detector=LoudnessVad())(Upload(recording), chunked=False)

        assert [len(window) for window in model.windows] == [len(recording)]

    async def test_counts_from_the_threshold_that_was_asked_for(self) -> None:
        model, detector = Model(), LoudnessVad()

        await _use_case(model, detector=detector)(Upload(_hiss(3)), detection=VadParams(threshold=0.05))

        assert sum(len(window) for window in model.windows) == 3 * RATE_HZ

    @pytest.mark.parametrize("piece", [1, 50, 10 * RATE_HZ])
    async def test_is_looked_for_in_four_seconds_at_once_or_in_more(self, piece: int) -> None:
        detector = LoudnessVad()

        await _use_case(Model(), detector=detector)(Upload(_hiss(9), piece=piece))

        assert detector.latest is not None
        *most, last = detector.latest.pushed
        assert all(length >= 4 * RATE_HZ for length in most)
        assert sum(most) + last == 9 * RATE_HZ
        assert len(most) <= 2

    @pytest.mark.parametrize("piece", [RATE_HZ // 3, 1000, 100 * RATE_HZ])
    async def test_is_looked_for_in_longer_blocks_of_what_is_long(self, piece: int) -> None:
        detector = LoudnessVad()

        await _use_case(Model(), detector=detector)(Upload(_hiss(37), piece=piece))

        assert detector.latest is not None
        assert [length / RATE_HZ for length in detector.latest.pushed] == [4, 4, 4, 4, 8, 8, 5]

    async def test_cannot_be_asked_for_without_a_detector(self) -> None:
        decoder = Decoder()

        with pytest.raises(InvalidRequestError):
            await _use_case(Model(), decoder=decoder)(Upload(_FORTY), detection=VadParams())

        assert decoder.opened == 0

    async def test_tells_how_likely_each_segment_is_none(self) -> None:
        recording = np.concatenate([speech(1), _hiss(0.5), speech(2)])

        (segment,) = (await _use_case(Model(), detector=LoudnessVad())(Upload(recording))).segments

        # Twenty frames of speech, at 0.95, and ten of hiss, at 0.05.
        assert segment.no_speech_probability == pytest.approx(0.35)

    async def test_without_a_detector_nobody_knows(self) -> None:
        (segment,) = (await _use_case(Model())(Upload(speech(1, 2)))).segments

        assert segment.no_speech_probability is None

    async def test_is_looked_for_beside_the_event_loop_and_its_failure_stops_everything(self) -> None:
        model, decoder, detector = Model(before=_never), Decoder(), _BrokenDetector()

        async with no_loose_ends():
            with pytest.raises(InferenceError, match="It broke"):
                await _use_case(model, decoder=decoder, detector=detector)(Upload(_FORTY))

            assert _stopped(model, decoder)
        assert detector.calls == 3
