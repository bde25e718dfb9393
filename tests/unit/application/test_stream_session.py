import asyncio
import math
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.application.live_transcriber import LiveTranscriber
from parakeet_service.application.ports.speech_model import StreamContext
from parakeet_service.application.run_unless import first_of
from parakeet_service.application.stream_session import LiveOptions, StreamSession
from parakeet_service.domain.audio import NO_SAMPLES, Encoding, Samples
from parakeet_service.domain.endpointing import Endpointing
from parakeet_service.domain.errors import (
    InferenceError,
    InvalidRequestError,
    ModelNotReadyError,
    OverloadedError,
)
from parakeet_service.domain.hypothesis import Hypothesis
from parakeet_service.domain.live import Cleared, EndCause, Final, LiveEvent, Partial, SpeechStarted, SpeechStopped
from tests.fakes import LoudnessVad
from tests.unit.application.doubles import (
    RATE_HZ,
    Model,
    Resampler,
    Stream,
    no_loose_ends,
    silence,
    speech,
    text_of,
    turns,
)

_CONTEXT = StreamContext(left_s=10, chunk_s=1, right_s=1)
_OPTIONS = LiveOptions(Encoding.PCM_F32LE, 8000, None, _CONTEXT, Endpointing(silence_s=0.8))
_TALK = np.concatenate([NO_SAMPLES, speech(*range(7)), silence(2.2), speech(*range(7, 10), pause_s=0.2), silence(0.3)])
"""Seven words, a pause that ends the utterance, and three words to the end."""


def _session(
    stream: Stream, *, resampler: Resampler | None = None, longest_backlog_s: float = 30, max_window_s: float = 12
) -> StreamSession:
    return StreamSession(
        Model(stream=stream, max_window_s=max_window_s),
        resampler or Resampler(),
        _CONTEXT,
        longest_backlog_s=longest_backlog_s,
    )


async def _listen(live: LiveTranscriber) -> list[LiveEvent]:
    return [event async for event in live.events()]


async def _run(session: StreamSession, frames: Iterable[bytes], options: LiveOptions = _OPTIONS) -> list[LiveEvent]:
    """Send all frames, while another task listens, and close."""
    async with session.open(options) as live, asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(_listen(live))
        for frame in frames:
            await live.send(frame)
        await live.close()
    return listening.result()


def _frames(samples: Samples, *lengths: int) -> list[bytes]:
    """The bytes of all samples, in frames of these lengths, and what is left."""
    data = samples.tobytes()
    edges = [0, *np.cumsum(lengths).tolist(), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


def _finals(events: Iterable[LiveEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def _untimed(events: Iterable[LiveEvent]) -> list[LiveEvent]:
    """How far the text is behind depends on how fast the audio comes."""
    return [replace(event, behind_s=0.0) if isinstance(event, Partial) else event for event in events]


class TestEvents:
    async def test_tell_what_is_said(self) -> None:
        events = _untimed(await _run(_session(Stream()), _frames(_TALK)))

        assert _finals(events) == [text_of(range(7)), text_of(range(7, 10))]
        kinds = [type(event) for event in events if not isinstance(event, Partial)]
        assert kinds == [SpeechStarted, SpeechStopped, Final] * 2
        partials = [event.text for event in events if isinstance(event, Partial)]
        assert partials[:3] == [text_of(range(2)), text_of(range(4)), text_of(range(6))]
        assert [event.at_s for event in events if isinstance(event, SpeechStarted)] == pytest.approx([0, 5.7])
        assert [event.at_s for event in events if isinstance(event, SpeechStopped)] == pytest.approx([3.5, 7.6])

    @given(st.lists(st.integers(0, 700), max_size=20))
    async def test_do_not_depend_on_frames(self, lengths: list[int]) -> None:
        whole = await _run(_session(Stream()), _frames(_TALK))
        split = await _run(_session(Stream()), _frames(_TALK, *lengths))

        assert _untimed(split) == _untimed(whole)

    async def test_come_from_each_encoding(self) -> None:
        stream = Stream()
        events = await _run(
            _session(stream),
            _frames((_TALK * 32768).astype("<i2"), 333, 5000),
            replace(_OPTIONS, encoding=Encoding.PCM_S16LE),
        )

        assert " ".join(_finals(events)) == text_of(range(10))

    async def test_come_from_resampled_audio_to_its_last_sample(self) -> None:
        stream, resampler = Stream(), Resampler(every=2, held=7)
        events = await _run(_session(stream, resampler=resampler), _frames(np.repeat(_TALK, 2), 1001, 8, 2222))

        assert resampler.opened == [(8000, RATE_HZ)]
        np.testing.assert_array_equal(stream.received, _TALK)
        assert " ".join(_finals(events)) == text_of(range(10))

    async def test_end_with_an_empty_final_where_nothing_was_said(self) -> None:
        assert await _run(_session(Stream()), []) == [Final((), 0, EndCause.ASKED)]
        assert await _run(_session(Stream()), _frames(silence(5))) == [Final((), 0, EndCause.ASKED)]

    async def test_tell_how_far_the_text_is_behind(self) -> None:
        async with _session(Stream()).open(_OPTIONS) as live:
            await live.send(speech(*range(5)).tobytes())
            await live.close()

            partials = [event async for event in live.events() if isinstance(event, Partial)]

        assert [partial.behind_s for partial in partials] == [1.5, 0.5]

    async def test_a_pause_ends_an_utterance_without_being_asked(self) -> None:
        async with no_loose_ends(), _session(Stream()).open(_OPTIONS) as live:
            await live.send(np.concatenate([speech(1, 2), silence(1)]).tobytes())
            async with aclosing(live.events()) as events:
                kinds = [type(event) for event in [await anext(events) for _ in range(5)]]

        assert kinds == [SpeechStarted, Partial, Partial, SpeechStopped, Final]

    async def test_no_partial_comes_between_a_flush_and_its_final(self) -> None:
        stream = Stream()
        async with _session(stream).open(_OPTIONS) as live:
            await live.send(speech(*range(5)).tobytes())
            await live.close()
            events = await _listen(live)

        assert [type(event) for event in events] == [SpeechStarted, Partial, Partial, SpeechStopped, Final]
        assert _finals(events) == [text_of(range(5))]


class TestFinalize:
    async def test_gives_a_final_and_goes_on(self) -> None:
        async with _session(Stream()).open(_OPTIONS) as live, asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(_listen(live))
            await live.send(speech(1, 2, 3).tobytes())
            await live.finalize()
            await live.send(speech(4, 5, 6).tobytes())
            await live.finalize()
            await live.close()

        finals = [event for event in listening.result() if isinstance(event, Final)]
        assert [(final.utterance, final.text) for final in finals] == [(0, "w1 w2 w3"), (1, "w4 w5 w6"), (2, "")]

    async def test_stands_where_it_was_asked_for(self) -> None:
        async with _session(Stream()).open(_OPTIONS) as live:
            await live.finalize()
            await live.send(speech(1).tobytes())
            await live.finalize()
            await live.send(speech(2).tobytes())
            await live.close()

            assert _finals(await _listen(live)) == ["", "w1", "w2"]


class TestBacklog:
    async def test_the_sender_waits_and_nothing_is_dropped(self) -> None:
        stream, sent = Stream(), list[int]()

        async def feed(live: LiveTranscriber) -> None:
            for number in range(10):
                await live.send(speech(number).tobytes())
                sent.append(number)
            await live.close()

        async with _session(stream, longest_backlog_s=1).open(_OPTIONS) as live, asyncio.TaskGroup() as tasks:
            tasks.create_task(feed(live))
            await turns()
            assert sent == [0, 1]

            events = await _listen(live)

        np.testing.assert_array_equal(stream.received, speech(*range(10)))
        assert _finals(events) == [text_of(range(10))]

    async def test_it_goes_on_as_soon_as_there_is_room(self) -> None:
        async with _session(Stream(), longest_backlog_s=1).open(_OPTIONS) as live:
            await live.send(speech(*range(5)).tobytes())
            waiting = asyncio.create_task(live.send(speech(5).tobytes()))
            async with aclosing(live.events()) as events:
                assert isinstance(await anext(events), SpeechStarted)
                await turns()
                assert not waiting.done()
                # 1.5 s of the 2.5 s are still unread, then 0.5 s.
                while not isinstance(await anext(events), Partial):
                    pass
                await anext(events)
                await turns()
                assert waiting.done()

    async def test_requests_for_a_final_count_too(self) -> None:
        asked = list[int]()

        async def ask(live: LiveTranscriber) -> None:
            for number in range(20):
                await live.finalize()
                asked.append(number)
            await live.close()

        async with _session(Stream(), longest_backlog_s=0.05).open(_OPTIONS) as live, asyncio.TaskGroup() as tasks:
            tasks.create_task(ask(live))
            await turns()
            assert len(asked) == 5

            assert len(_finals(await _listen(live))) == 21

    async def test_frames_without_a_whole_sample_take_no_room(self) -> None:
        stream = Stream()
        async with _session(stream, longest_backlog_s=0.05).open(_OPTIONS) as live:
            for _ in range(3):
                await live.send(b"")
                await live.send(b"\0")
            await live.close()

            await _listen(live)

        assert stream.pushes == []

    async def test_what_waits_is_read_a_step_at_a_time(self) -> None:
        stream = Stream()
        async with _session(stream).open(_OPTIONS) as live:
            for samples in (speech(*range(5)), speech(5, 6)[:70], speech(7)[:10]):
                await live.send(samples.tobytes())
            await live.close()
            await _listen(live)

        assert stream.pushes == [100, 100, 100, 30]

    async def test_a_step_ends_at_a_request_for_a_final(self) -> None:
        stream = Stream()
        async with _session(stream).open(_OPTIONS) as live:
            await live.send(speech(1).tobytes())
            await live.finalize()
            await live.send(speech(2).tobytes())
            await live.close()
            await _listen(live)

        assert stream.pushes == [50, 50]

    async def test_who_is_behind_reads_as_much_as_fits_into_a_window(self) -> None:
        stream = Stream()
        async with _session(stream, max_window_s=14.5).open(_OPTIONS) as live:
            await live.send(speech(*range(10)).tobytes())
            await live.close()
            assert _finals(await _listen(live)) == [text_of(range(10))]

        # A window of 14.5 s has room for 10 s before, 1 s behind, and a chunk that may be left of the last step.
        assert stream.pushes == [250, 250]

    async def test_but_no_more_than_a_few_seconds(self) -> None:
        stream = Stream()
        async with _session(stream, max_window_s=1000).open(_OPTIONS) as live:
            await live.send(speech(*range(30)).tobytes())
            await live.close()
            assert _finals(await _listen(live)) == [text_of(range(30))]

        assert stream.pushes == [500, 500, 500]

    async def test_little_is_not_looked_at(self) -> None:
        stream = Stream()
        async with no_loose_ends(), _session(stream).open(_OPTIONS) as live:
            listening = asyncio.create_task(_listen(live))
            for at in range(0, 25, 5):
                await live.send(speech(1)[at : at + 5].tobytes())
                await turns()
            assert stream.pushes == [10, 10]
            await live.close()
            await listening

        assert stream.pushes == [10, 10, 5]


class TestDetector:
    """The detector hears whatever is loud; its frames are 50 ms long, and a span keeps 0.1 s before it."""

    _PAUSE = silence(3)

    def _session(self, stream: Stream) -> StreamSession:
        return StreamSession(Model(stream=stream, max_window_s=12), Resampler(), _CONTEXT, LoudnessVad())

    async def _run(self, stream: Stream, samples: Samples, endpointing: Endpointing) -> list[LiveEvent]:
        return await _run(
            self._session(stream),
            [piece.tobytes() for piece in np.split(samples, range(10, len(samples), 10))],
            replace(_OPTIONS, endpointing=endpointing),
        )

    async def test_a_pause_without_audio_ends_an_utterance_and_only_one_that_is_open(self) -> None:
        async with self._session(Stream()).open(_OPTIONS) as live:
            for samples in (self._PAUSE, speech(1, 2), speech(3)):
                await live.send(samples.tobytes())
                await live.pause()
                await live.pause()
            await live.close()
            events = [event async for event in live.events()]

        finals = [(event.text, event.cause) for event in events if isinstance(event, Final)]
        assert finals == [("w1 w2", EndCause.SILENCE), ("w3", EndCause.SILENCE), ("", EndCause.ASKED)]
        assert [type(event) for event in events if isinstance(event, SpeechStarted | SpeechStopped)] == [
            SpeechStarted,
            SpeechStopped,
        ] * 2

    async def test_silence_is_not_read(self) -> None:
        stream = Stream()
        talk = np.concatenate([self._PAUSE, speech(1, 2), self._PAUSE, speech(3), self._PAUSE])
        events = await self._run(stream, talk, Endpointing())

        assert _finals(events) == ["w1 w2", "w3", ""]
        # Each span, with 0.1 s before it and 0.2 s behind it.
        assert stream.starts == pytest.approx([2.9, 6.9])
        assert sum(stream.pushes) == pytest.approx(130 + 80, abs=10)

    @given(st.lists(st.integers(0, 700), max_size=20), st.sampled_from([Endpointing(), Endpointing(3.0, 0.5)]))
    async def test_utterances_do_not_depend_on_frames(self, lengths: list[int], endpointing: Endpointing) -> None:
        talk = np.concatenate([_TALK, self._PAUSE, speech(11), silence(0.6), speech(12)])
        options = replace(_OPTIONS, endpointing=endpointing)
        whole = await _run(self._session(Stream()), _frames(talk), options)
        split = await _run(self._session(Stream()), _frames(talk, *lengths), options)

        assert _untimed(split) == _untimed(whole)

    async def test_speech_is_told_of_before_it_is_read(self) -> None:
        events = await self._run(Stream(), np.concatenate([self._PAUSE, speech(1), self._PAUSE]), Endpointing())

        assert [type(event) for event in events] == [SpeechStarted, SpeechStopped, Final, Final]
        started, stopped, final, last = events
        assert isinstance(started, SpeechStarted)
        assert isinstance(stopped, SpeechStopped)
        assert started.at_s == pytest.approx(2.9)
        assert stopped.at_s == pytest.approx(3.5)
        assert isinstance(final, Final)
        assert final.cause is EndCause.SILENCE
        assert last == Final((), 1, EndCause.ASKED)

    async def test_a_sound_that_is_no_word_has_an_empty_final(self) -> None:
        cough = np.full(20, 0.3, np.float32)
        events = await self._run(Stream(), np.concatenate([cough, self._PAUSE]), Endpointing())

        assert [type(event) for event in events] == [SpeechStarted, SpeechStopped, Final, Final]
        assert _finals(events) == ["", ""]

    async def test_an_utterance_may_outlast_a_span(self) -> None:
        stream = Stream()
        talk = np.concatenate([speech(1, 2), self._PAUSE, speech(3, 4), self._PAUSE])
        events = await self._run(stream, talk, Endpointing(silence_s=None))

        assert stream.starts == pytest.approx([0, 3.9])
        assert _finals(events) == ["w1 w2 w3 w4"]
        # The model forgets what came before the pause: that is read to its end first.
        assert any(isinstance(event, Partial) and event.text == "w1 w2" for event in events)

    async def test_speech_to_the_last_sample_is_read(self) -> None:
        events = await self._run(Stream(), np.concatenate([self._PAUSE, speech(1, 2)])[:-3], Endpointing())

        assert _finals(events) == ["w1 w2"]

    async def test_the_decoder_may_end_an_utterance_in_noise(self) -> None:
        noise = np.full(5 * RATE_HZ, 0.3, np.float32)
        events = await self._run(Stream(), np.concatenate([speech(1, 2), noise, speech(3)]), Endpointing())

        assert _finals(events) == ["w1 w2", "w3"]
        assert [event.at_s for event in events if isinstance(event, SpeechStopped)] == pytest.approx([1.0, 6.5])

    @pytest.mark.parametrize(("ends", "finals"), [(True, ["w1.", "w2."]), (False, ["w1 w2"])])
    async def test_a_sentence_ends_sooner(self, ends: bool, finals: list[str]) -> None:  # noqa: FBT001
        talk = np.concatenate([self._PAUSE, speech(1), silence(1), speech(2), silence(0.3)])
        events = await self._run(Stream(full_stops=ends), talk, Endpointing(silence_s=2, complete_s=0.5))

        assert _finals(events) == finals

    async def test_whether_it_is_one_is_asked_once_in_a_pause(self) -> None:
        stream = Stream()
        talk = np.concatenate([speech(1), silence(0.7), speech(2), silence(0.7), speech(3)])
        await self._run(stream, talk, Endpointing(silence_s=3, complete_s=0.5))

        assert stream.flushes == 3


class TestClear:
    async def test_forgets_what_was_said(self) -> None:
        async with no_loose_ends(), _session(Stream()).open(_OPTIONS) as live:
            await live.send(speech(1, 2, 3).tobytes())
            await live.clear()
            await live.send(speech(4, 5, 6).tobytes())
            await live.close()
            events = await _listen(live)

        at = events.index(Cleared())
        assert any(isinstance(event, Partial) for event in events[:at])
        assert [type(event) for event in events[at:]] == [
            Cleared,
            SpeechStarted,
            Partial,
            Partial,
            SpeechStopped,
            Final,
        ]
        assert _finals(events) == ["w4 w5 w6"]
        assert isinstance(events[-1], Final)
        assert events[-1].words[0].start_s == pytest.approx(1.5)

    async def test_nothing_of_it_comes_back(self) -> None:
        async with _session(Stream()).open(_OPTIONS) as live:
            await live.send(speech(1, 2, 3).tobytes())
            await live.clear()
            await live.finalize()
            await live.close()
            events = await _listen(live)

        at = events.index(Cleared())
        assert events[at:] == [Cleared(), Final((), 0, EndCause.ASKED), Final((), 1, EndCause.ASKED)]

    async def test_what_was_heard_still_counts(self) -> None:
        async with _session(Stream()).open(_OPTIONS) as live:
            await live.send(speech(1, 2, 3).tobytes())
            await live.clear()
            await live.close()
            assert live.heard_s == 0
            await _listen(live)

            assert live.heard_s == pytest.approx(1.5)


class TestOverload:
    async def test_costs_a_step_and_no_words(self) -> None:
        calm = _untimed(await _run(_session(Stream()), _frames(_TALK)))
        busy = _untimed(
            await _run(
                _session(Stream(push_errors={0: OverloadedError("Busy."), 5: OverloadedError("Busy.")})), _frames(_TALK)
            )
        )

        assert len(busy) < len(calm)
        assert _finals(busy) == _finals(calm)

    async def test_a_flush_is_tried_until_it_succeeds(self) -> None:
        busy = {at: OverloadedError("Busy.", retry_after_s=0) for at in range(3)}
        stream = Stream(flush_errors=dict(busy))

        assert _finals(await _run(_session(stream), _frames(speech(1, 2)))) == ["w1 w2"]
        assert stream.flushes == 4

    async def test_it_waits_as_long_as_it_was_told(self) -> None:
        stream = Stream(flush_errors={0: OverloadedError("Busy.", retry_after_s=3600)})
        async with no_loose_ends(), _session(stream).open(_OPTIONS) as live:
            await live.close()
            listening = asyncio.create_task(_listen(live))
            await turns()

            assert not listening.done()
            assert stream.flushes == 1
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


class TestEnd:
    @pytest.mark.parametrize(
        "stream",
        [Stream(push_errors={0: InferenceError("It broke.")}), Stream(flush_errors={0: InferenceError("It broke.")})],
        ids=["push", "flush"],
    )
    async def test_an_error_of_the_model_passes_and_frees_the_stream(self, stream: Stream) -> None:
        session = _session(stream)

        with pytest.raises(InferenceError, match="It broke"):
            await _listen_to(session, speech(1, 2))

        assert _model(session).open_streams == 0

    async def test_leaving_early_frees_the_stream(self) -> None:
        session = _session(Stream())

        async def leave() -> None:
            async with session.open(_OPTIONS) as live:
                assert _model(session).open_streams == 1
                await live.send(speech(1).tobytes())
                raise LookupError

        with pytest.raises(LookupError):
            await leave()

        assert _model(session).open_streams == 0

    async def test_a_listener_may_stop_at_any_event(self) -> None:
        session = _session(Stream())

        async with no_loose_ends():
            async with session.open(_OPTIONS) as live:
                await live.send(_TALK.tobytes())
                async with aclosing(live.events()) as events:
                    assert isinstance(await anext(events), SpeechStarted)

            assert _model(session).open_streams == 0

    async def test_a_cancelled_listener_leaves_nothing_behind(self) -> None:
        session = _session(Stream())

        async with no_loose_ends():
            async with session.open(_OPTIONS) as live:
                listening = asyncio.create_task(_listen(live))
                await turns()
                listening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await listening

            assert _model(session).open_streams == 0


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "param"),
        [
            (replace(_OPTIONS, sample_rate_hz=7999), "sample_rate_hz"),
            (replace(_OPTIONS, sample_rate_hz=192_001), "sample_rate_hz"),
            (replace(_OPTIONS, language="fr"), "language"),
            (replace(_OPTIONS, language=""), "language"),
            (replace(_OPTIONS, context=replace(_CONTEXT, chunk_s=0.159)), "chunk_s"),
            (replace(_OPTIONS, context=replace(_CONTEXT, chunk_s=30.1)), "chunk_s"),
            (replace(_OPTIONS, context=replace(_CONTEXT, chunk_s=math.nan)), "chunk_s"),
            (replace(_OPTIONS, context=replace(_CONTEXT, left_s=-0.1)), "left_s"),
            (replace(_OPTIONS, context=replace(_CONTEXT, left_s=math.nan)), "left_s"),
            (replace(_OPTIONS, context=replace(_CONTEXT, right_s=-0.1)), "right_s"),
            (replace(_OPTIONS, context=replace(_CONTEXT, right_s=math.nan)), "right_s"),
            (replace(_OPTIONS, context=replace(_CONTEXT, right_s=math.inf)), "right_s"),
            (replace(_OPTIONS, context=StreamContext(30, 1, 29.1)), "left_s"),
        ],
    )
    async def test_that_cannot_be_met_are_named(self, options: LiveOptions, param: str) -> None:
        session = _session(Stream())

        with pytest.raises(InvalidRequestError) as caught:
            await _open(session, options)

        assert caught.value.details == {"param": param}
        assert param in caught.value.message or param == "language"
        assert _model(session).contexts == []

    @pytest.mark.parametrize(
        "options",
        [
            replace(_OPTIONS, sample_rate_hz=8000),
            replace(_OPTIONS, sample_rate_hz=192_000),
            replace(_OPTIONS, language="en"),
            replace(_OPTIONS, language="DE-at"),
            replace(_OPTIONS, context=StreamContext(0, 0.16, 0)),
            replace(_OPTIONS, context=StreamContext(10, 1, 1)),
            replace(_OPTIONS, endpointing=Endpointing(silence_s=0.1)),
            replace(_OPTIONS, endpointing=Endpointing(silence_s=60)),
        ],
    )
    async def test_at_their_limits_are_met(self, options: LiveOptions) -> None:
        session = _session(Stream())
        await _open(session, options)

        assert _model(session).contexts == [options.context]

    async def test_languages_are_told(self) -> None:
        with pytest.raises(InvalidRequestError, match="'fr'; it supports en, de"):
            await _open(_session(Stream()), replace(_OPTIONS, language="fr"))

    async def test_a_model_that_is_not_ready_says_so(self) -> None:
        session = StreamSession(Model(not_ready=ModelNotReadyError("Loading.")), Resampler(), _CONTEXT)

        with pytest.raises(ModelNotReadyError):
            await _open(session, _OPTIONS)

    async def test_by_default_are_16_khz_pcm(self) -> None:
        session = _session(Stream())

        assert session.defaults == LiveOptions(Encoding.PCM_S16LE, 16_000, None, _CONTEXT, Endpointing())
        await _open(session, session.defaults)

    async def test_the_defaults_can_be_held_against_the_model(self) -> None:
        _session(Stream(), max_window_s=12).check()

        with pytest.raises(InvalidRequestError, match="may add up to 11 seconds"):
            _session(Stream(), max_window_s=11).check()

    async def test_the_step_follows_the_chunk(self) -> None:
        stream = Stream(chunk_s=0.16)
        context = StreamContext(11.84, 0.16, 0)
        await _run(_session(stream), _frames(speech(1)), replace(_OPTIONS, context=context))

        assert stream.pushes == [16, 16, 16, 2]

    async def test_the_endpoint_is_what_was_asked_for(self) -> None:
        talk = np.concatenate([speech(1, pause_s=1.5), speech(2, pause_s=1.0)])

        async def utterances(endpoint_s: float) -> Sequence[str]:
            events = await _run(
                _session(Stream()), _frames(talk), replace(_OPTIONS, endpointing=Endpointing(silence_s=endpoint_s))
            )
            return _finals(events)

        assert await utterances(1.2) == ["w1", "w2"]
        assert await utterances(2.0) == ["w1 w2"]


def _model(session: StreamSession) -> Model:
    assert isinstance(session.model, Model)
    return session.model


async def _open(session: StreamSession, options: LiveOptions) -> None:
    async with session.open(options):
        pass


async def _listen_to(session: StreamSession, samples: Samples) -> None:
    async with session.open(_OPTIONS) as live:
        await live.send(samples.tobytes())
        await live.close()
        await _listen(live)


_DETECTOR = LoudnessVad()


class _BusyStream(Stream):
    """Has no time for a draft before it is `free`, and until then takes samples as the port says."""

    def __init__(self, *, drafted_at_flush: bool = False) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.waiting = False
        self.drafts_asked = 0
        self._ended = asyncio.Event()
        self._drafted_at_flush = drafted_at_flush

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        if self.waiting:
            self.append(samples)
            return None
        hypothesis = await super().decode(samples, start_s=start_s)
        if hypothesis is None:
            return None
        self.waiting, self.drafts_asked = True, self.drafts_asked + 1
        self._ended.clear()
        try:
            await first_of(self.free.wait(), self._ended.wait())
            return hypothesis if self._drafted_at_flush or not self._ended.is_set() else None
        finally:
            self.waiting = False

    async def flush(self) -> Hypothesis:
        self._ended.set()
        return await super().flush()


class _ReadyMeanwhileStream(_BusyStream):
    """Its draft is ready when more samples come."""

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        if self.waiting:
            self.free.set()
            while self.waiting:
                await asyncio.sleep(0)
        return await super().decode(samples, start_s=start_s)


class TestWhileTheModelIsBusy:
    async def test_the_end_of_speech_is_heard_and_its_text_needs_no_draft(self) -> None:
        stream = _BusyStream()
        events: list[LiveEvent] = []
        async with _heard(stream, events) as live:
            await live.send(np.concatenate([speech(1, 2, 3), silence(1.2)]).tobytes())
            await turns()
            assert [type(event) for event in events] == [SpeechStarted, SpeechStopped, Final]
        assert stream.drafts_asked == 1
        assert _finals(events)[0] == text_of([1, 2, 3])

    async def test_a_draft_that_is_ready_just_before_the_end_is_not_lost(self) -> None:
        stream = _BusyStream(drafted_at_flush=True)
        events: list[LiveEvent] = []
        async with _heard(stream, events) as live:
            await live.send(speech(*range(6)).tobytes())
            await turns()
            await live.finalize()
            await turns()
        assert _finals(events)[0] == text_of(range(6))

    async def test_the_draft_is_told_when_it_comes(self) -> None:
        stream = _BusyStream()
        events: list[LiveEvent] = []
        async with _heard(stream, events) as live:
            await live.send(speech(1, 2, 3).tobytes())
            await turns()
            assert [type(event) for event in events] == [SpeechStarted]
            stream.free.set()
            await turns()
            assert isinstance(events[-1], Partial)

    async def test_no_more_is_given_to_it_than_it_reads_at_once(self) -> None:
        stream = _BusyStream()
        events: list[LiveEvent] = []
        async with _heard(stream, events) as live:
            for _ in range(20):
                await live.send(speech(1).tobytes())
                await turns(5)
            assert 4 <= len(stream.received) / RATE_HZ <= 5
            stream.free.set()
            await turns()
            assert len(stream.received) / RATE_HZ > 5

    async def test_what_does_not_fit_beside_the_draft_comes_after_it(self) -> None:
        stream = _BusyStream()
        events: list[LiveEvent] = []
        async with _heard(stream, events) as live:
            await live.send(speech(*range(6)).tobytes())
            await turns()
            await live.send(speech(*range(6, 12)).tobytes())
            await turns()
            assert len(stream.received) / RATE_HZ <= 3
            stream.free.set()
            await turns()
            assert len(stream.received) / RATE_HZ > 5

    async def test_drafts_are_told_in_order_where_one_is_ready_as_samples_come(self) -> None:
        events: list[LiveEvent] = []
        async with _heard(_ReadyMeanwhileStream(), events) as live:
            await live.send(speech(1, 2).tobytes())
            await turns()
            assert not any(isinstance(event, Partial) for event in events)
            await live.send(speech(3, 4).tobytes())
            await turns()
        counts = [len(event.words) for event in events if isinstance(event, Partial)]
        assert len(counts) > 1
        assert counts == sorted(counts)

    async def test_without_a_detector_a_draft_without_new_words_ends_the_utterance(self) -> None:
        stream = _BusyStream()
        events: list[LiveEvent] = []
        async with _heard(stream, events, detector=None) as live:
            await live.send(np.concatenate([speech(1), silence(2.5)]).tobytes())
            await turns()
            assert events == []
            stream.free.set()
            await turns()
            assert isinstance(events[-1], Final)

    async def test_what_is_cleared_is_not_told_later(self) -> None:
        stream = _BusyStream()
        events: list[LiveEvent] = []
        async with _heard(stream, events) as live:
            await live.send(speech(1, 2, 3).tobytes())
            await turns()
            await live.clear()
            await turns()
            assert not stream.waiting
            stream.free.set()
            await turns()
            assert [type(event) for event in events] == [SpeechStarted, Cleared]

    async def test_leaving_ends_what_waits(self) -> None:
        stream = _BusyStream()
        events: list[LiveEvent] = []
        async with no_loose_ends():
            session = replace(_session(stream), detector=LoudnessVad())
            async with session.open(_OPTIONS) as live:
                listening = asyncio.create_task(_listen(live))
                await live.send(speech(1, 2, 3).tobytes())
                await turns()
                assert stream.waiting
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            assert not stream.waiting
        assert events == []


@asynccontextmanager
async def _heard(
    stream: _BusyStream, events: list[LiveEvent], *, detector: LoudnessVad | None = _DETECTOR
) -> AsyncGenerator[LiveTranscriber]:
    """A session whose events are gathered; it is closed at the end."""

    async def listen() -> None:
        async for event in live.events():
            events.append(event)  # noqa: PERF401 - as each comes

    async with replace(_session(stream, max_window_s=20), detector=detector).open(_OPTIONS) as live:
        listening = asyncio.create_task(listen())
        yield live
        stream.free.set()
        await live.close()
        await listening
