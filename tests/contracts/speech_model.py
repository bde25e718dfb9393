"""What every `SpeechModel` must do, whatever it hears."""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

import numpy as np
import pytest

from parakeet_service.application.ports.speech_model import RecognitionStream, SpeechModel, StreamContext
from parakeet_service.domain.audio import NO_SAMPLES, Samples
from parakeet_service.domain.errors import ModelNotReadyError, TooManyStreamsError
from parakeet_service.domain.hypothesis import Hypothesis
from parakeet_service.domain.transcript import Token

FRAME_S = 0.1
"""A model's times are no finer than this."""
CONTEXT = StreamContext(left_s=2.0, chunk_s=1.0, right_s=1.0)


class SpeechModelContract(ABC):
    """Subclass it with a `make`, and with `speech` where a tone is not enough to make the model write something."""

    @abstractmethod
    def make(self, *, max_streams: int = 4) -> SpeechModel:
        """A new model that has not been started."""

    def speech(self, sample_rate_hz: int) -> Samples:
        """At least five seconds in which the model hears at least three words."""
        t = np.arange(6 * sample_rate_hz) / sample_rate_hz
        return (0.3 * np.sin(2 * np.pi * 220 * t)).astype(np.float32)

    @asynccontextmanager
    async def started(self, *, max_streams: int = 4) -> AsyncGenerator[SpeechModel]:
        model = self.make(max_streams=max_streams)
        await model.start()
        try:
            yield model
        finally:
            await model.aclose()

    async def test_is_not_ready_before_it_is_started(self) -> None:
        model = self.make()
        with pytest.raises(ModelNotReadyError):
            model.describe()
        with pytest.raises(ModelNotReadyError):
            await model.transcribe(np.zeros(16000, np.float32))
        with pytest.raises(ModelNotReadyError):
            async with model.open_stream(CONTEXT):
                pass

    async def test_says_what_it_asks_of_its_callers(self) -> None:
        async with self.started() as model:
            described = model.describe()
        assert described.id
        assert described.sample_rate_hz >= 8000
        assert described.max_window_s >= 5
        assert all(len(language) == 2 for language in described.languages)

    async def test_reads_speech_in_order_and_within_the_window(self) -> None:
        async with self.started() as model:
            rate_hz = model.describe().sample_rate_hz
            samples = self.speech(rate_hz)
            tokens = await model.transcribe(samples)
        assert len("".join(token.text for token in tokens).split()) >= 3
        _assert_sound(tokens, until_s=len(samples) / rate_hz)

    @pytest.mark.parametrize("samples", [1, 2, 799, 1600])
    async def test_takes_the_shortest_windows(self, samples: int) -> None:
        async with self.started() as model:
            tokens = await model.transcribe(np.zeros(samples, np.float32))
        assert isinstance(tokens, tuple)

    async def test_hears_nothing_in_silence(self) -> None:
        async with self.started() as model:
            assert await model.transcribe(np.zeros(3 * model.describe().sample_rate_hz, np.float32)) == ()

    async def test_reads_windows_side_by_side_as_it_reads_them_alone(self) -> None:
        async with self.started() as model:
            samples = self.speech(model.describe().sample_rate_hz)
            windows = [samples, samples[: len(samples) // 2], samples]
            alone = [await model.transcribe(window) for window in windows]
            together = await asyncio.gather(*(model.transcribe(window) for window in windows))
        assert [_text(tokens) for tokens in together] == [_text(tokens) for tokens in alone]

    async def test_goes_on_after_a_cancelled_window(self) -> None:
        async with self.started() as model:
            samples = self.speech(model.describe().sample_rate_hz)
            cancelled = asyncio.create_task(model.transcribe(samples))
            kept = asyncio.create_task(model.transcribe(samples))
            await asyncio.sleep(0)
            cancelled.cancel()
            assert await kept == await model.transcribe(samples)

    async def test_a_stream_finalizes_what_it_hears_and_never_takes_it_back(self) -> None:
        async with self.started() as model, model.open_stream(CONTEXT) as stream:
            rate_hz = model.describe().sample_rate_hz
            samples = self.speech(rate_hz)
            steps = await _decode_all(stream, samples, rate_hz // 5)
            last = await stream.flush()
        steps.append(last)
        finalized = [token for step in steps for token in step.finalized]
        assert len(_text(finalized).split()) >= 3
        _assert_sound(finalized, until_s=len(samples) / rate_hz)
        assert last.draft == ()
        assert abs(last.decoded_until_s - len(samples) / rate_hz) < FRAME_S
        for before, after in pairwise(steps):
            assert before.finalized_until_s <= after.finalized_until_s
            assert before.decoded_until_s <= after.decoded_until_s
            new = [*after.finalized, *after.draft]
            assert all(token.start_s >= before.finalized_until_s - FRAME_S for token in new)

    async def test_a_stream_finalizes_nothing_that_is_not_followed_by_the_right_context(self) -> None:
        async with self.started() as model, model.open_stream(CONTEXT) as stream:
            rate_hz = model.describe().sample_rate_hz
            steps = await _decode_all(stream, self.speech(rate_hz), rate_hz // 5)
        assert any(step.draft for step in steps)
        for step in steps:
            stable_until_s = step.decoded_until_s - CONTEXT.right_s
            assert all(token.start_s <= stable_until_s + FRAME_S for token in step.finalized)

    async def test_a_stream_waits_for_a_whole_chunk(self) -> None:
        async with self.started() as model, model.open_stream(CONTEXT) as stream:
            samples = self.speech(model.describe().sample_rate_hz)
            chunk = int(CONTEXT.chunk_s * model.describe().sample_rate_hz)
            assert await stream.decode(samples[: chunk - 1]) is None
            assert await stream.decode(NO_SAMPLES) is None
            assert await stream.decode(samples[chunk - 1 : chunk]) is not None

    async def test_a_flushed_stream_counts_on_from_its_first_sample(self) -> None:
        async with self.started() as model, model.open_stream(CONTEXT) as stream:
            rate_hz = model.describe().sample_rate_hz
            samples = self.speech(rate_hz)
            length_s = len(samples) / rate_hz
            await _decode_all(stream, samples, rate_hz)
            await stream.flush()
            steps = [*await _decode_all(stream, samples, rate_hz), await stream.flush()]
        tokens = [token for step in steps for token in step.finalized]
        assert tokens
        assert all(length_s - 0.5 <= token.start_s <= 2 * length_s for token in tokens)

    async def test_a_stream_that_is_flushed_again_and_again_does_not_lose_count(self) -> None:
        context = StreamContext(left_s=0.0, chunk_s=1.0, right_s=1.0)
        async with self.started() as model, model.open_stream(context) as stream:
            rate_hz = model.describe().sample_rate_hz
            piece = np.zeros(rate_hz + 7 * rate_hz // 100, np.float32)
            piece[::2] = 0.1
            for count in range(1, 9):
                await stream.decode(piece)
                await stream.flush()
                last = await stream.flush()
                assert abs(last.decoded_until_s - count * len(piece) / rate_hz) < FRAME_S

    async def test_samples_that_do_not_follow_begin_anew_where_they_lie(self) -> None:
        async with self.started() as model:
            rate_hz = model.describe().sample_rate_hz
            samples = self.speech(rate_hz)
            async with model.open_stream(CONTEXT) as stream:
                await stream.decode(samples[: len(samples) // 2])
                # Ten seconds before it nothing was given, and what came before that was not flushed.
                first = await stream.decode(samples[:rate_hz], start_s=20.0)
                later = await _decode_all(stream, samples[rate_hz:], rate_hz)
                again = [step for step in [first, *later, await stream.flush()] if step is not None]
            async with model.open_stream(CONTEXT) as other:
                alone = [*await _decode_all(other, samples, rate_hz), await other.flush()]
        assert _text(_finalized(again)) == _text(_finalized(alone))
        for one in again:
            assert one.finalized_until_s >= 20.0 - FRAME_S
            assert 20.0 - FRAME_S <= one.decoded_until_s <= 20.0 + len(samples) / rate_hz + FRAME_S
        tokens = _finalized(again)
        assert tokens
        assert all(token.start_s >= 20.0 - FRAME_S for token in tokens)
        _assert_sound(tokens, until_s=20.0 + len(samples) / rate_hz)

    async def test_samples_that_come_while_a_step_waits_are_not_lost(self) -> None:
        async with self.started() as model:
            rate_hz = model.describe().sample_rate_hz
            samples, half = self.speech(rate_hz), len(self.speech(rate_hz)) // 2
            async with model.open_stream(CONTEXT) as stream:
                waiting = asyncio.create_task(stream.decode(samples[:half]))
                await asyncio.sleep(0)
                steps = [await stream.decode(samples[half:]), await stream.flush()]
                heard = [step for step in [await waiting, *steps] if step is not None]
            async with model.open_stream(CONTEXT) as other:
                expected = await _heard(other, [samples], len(samples))
        # Cut into other windows, a word may read differently.
        words, others = (re.findall(r"[\w']+", text.lower()) for text in (_text(_finalized(heard)), expected))
        assert len(set(words) & set(others)) >= 0.8 * len(set(others))
        assert abs(len(words) - len(others)) <= 2
        assert heard[-1].draft == ()
        assert abs(heard[-1].decoded_until_s - len(samples) / rate_hz) < FRAME_S
        assert [one.decoded_until_s for one in heard] == sorted(one.decoded_until_s for one in heard)

    async def test_an_empty_stream_can_be_flushed(self) -> None:
        async with self.started() as model, model.open_stream(CONTEXT) as stream:
            hypothesis = await stream.flush()
        assert (hypothesis.finalized, hypothesis.draft) == ((), ())

    async def test_streams_know_nothing_of_each_other(self) -> None:
        async with self.started() as model:
            rate_hz = model.describe().sample_rate_hz
            samples = self.speech(rate_hz)
            async with model.open_stream(CONTEXT) as alone:
                expected = await _heard(alone, [samples], rate_hz)
            async with model.open_stream(CONTEXT) as one, model.open_stream(CONTEXT) as other:
                quiet = np.zeros_like(samples)
                heard, nothing = await asyncio.gather(_heard(one, [samples], rate_hz), _heard(other, [quiet], rate_hz))
        assert heard == expected
        assert nothing == ""

    async def test_refuses_more_streams_than_it_may_hold_until_one_is_left(self) -> None:
        async with self.started(max_streams=2) as model, AsyncExitStack() as held:
            await held.enter_async_context(model.open_stream(CONTEXT))
            async with model.open_stream(CONTEXT):
                with pytest.raises(TooManyStreamsError):
                    await held.enter_async_context(model.open_stream(CONTEXT))
            await held.enter_async_context(model.open_stream(CONTEXT))

    async def test_a_stream_whose_user_fails_is_freed(self) -> None:
        async with self.started(max_streams=1) as model:
            with pytest.raises(ZeroDivisionError):
                async with model.open_stream(CONTEXT):
                    raise ZeroDivisionError
            async with model.open_stream(CONTEXT) as stream:
                assert (await stream.flush()).draft == ()

    async def test_a_stream_whose_user_is_cancelled_is_freed(self) -> None:
        async with self.started(max_streams=1) as model:
            samples = self.speech(model.describe().sample_rate_hz)
            inside = asyncio.Event()

            async def use() -> None:
                async with model.open_stream(CONTEXT) as stream:
                    inside.set()
                    while True:
                        await stream.decode(samples)
                        await asyncio.sleep(0)

            user = asyncio.create_task(use())
            await inside.wait()
            user.cancel()
            await asyncio.wait((user,))
            async with model.open_stream(CONTEXT) as stream:
                assert (await stream.flush()).draft == ()


def _finalized(steps: Sequence[Hypothesis]) -> list[Token]:
    return [token for step in steps for token in step.finalized]


async def _decode_all(stream: RecognitionStream, samples: Samples, piece: int) -> list[Hypothesis]:
    steps = [await stream.decode(samples[at : at + piece]) for at in range(0, len(samples), piece)]
    return [step for step in steps if step is not None]


async def _heard(stream: RecognitionStream, pieces: Sequence[Samples], piece: int) -> str:
    steps = [step for samples in pieces for step in await _decode_all(stream, samples, piece)]
    steps.append(await stream.flush())
    return _text([token for step in steps for token in step.finalized])


def _text(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens)


def _assert_sound(tokens: Sequence[Token], *, until_s: float) -> None:
    for token in tokens:
        assert token.id >= 0
        assert 0 <= token.confidence <= 1
        assert 0 <= token.start_s <= token.end_s <= until_s + FRAME_S
        assert token.text
        assert not token.text.startswith(("<", "\u2581"))
    starts = [token.start_s for token in tokens]
    assert starts == sorted(starts)
