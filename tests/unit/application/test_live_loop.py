import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pytest

from parakeet_service.application.drain import Drain
from parakeet_service.application.live_codec import (
    Clear,
    Close,
    Command,
    Configure,
    Configured,
    Failed,
    Finalize,
    KeepAlive,
    LiveProgress,
    LoopEvent,
    Ready,
    Reply,
    SendAudio,
)
from parakeet_service.application.live_loop import LiveEnd, LiveLoop
from parakeet_service.application.ports.metrics import NullMetrics
from parakeet_service.application.ports.quota import UNLIMITED, Quota
from parakeet_service.application.ports.speech_model import GREEDY, Decoding, RecognitionStream, StreamContext
from parakeet_service.application.stream_session import LiveOptions, StreamSession
from parakeet_service.domain.audio import Encoding
from parakeet_service.domain.endpointing import Endpointing
from parakeet_service.domain.errors import (
    InferenceError,
    InvalidRequestError,
    ModelNotReadyError,
    OverloadedError,
    RateLimitError,
    ServiceError,
    SessionIdleError,
    TooManyStreamsError,
    UndecodableAudioError,
)
from parakeet_service.domain.hypothesis import Hypothesis
from parakeet_service.domain.live import Cleared, EndCause, Final, Partial
from tests.unit.application.doubles import (
    RATE_HZ,
    WORD_S,
    Model,
    Resampler,
    Stream,
    no_loose_ends,
    silence,
    speech,
    turns,
)

_OPTIONS = LiveOptions(Encoding.PCM_F32LE, 8000, None, StreamContext(left_s=10, chunk_s=1, right_s=1), Endpointing())
_S = 8000 * 4
"""Bytes of a second: the double of a resampler takes them for as many samples, whatever the rate."""

Said: TypeAlias = Command[str] | Iterable[Command[str]] | ServiceError


class _ClientLeftError(Exception):
    """What the channel raises."""


class _Client:
    """A channel, and a codec whose messages are commands as they are, and events as they are."""

    def __init__(self, options: LiveOptions = _OPTIONS, *, refused: ServiceError | None = None) -> None:
        self._options = options
        self._refused = refused
        self._says: asyncio.Queue[Said | Exception] = asyncio.Queue()
        self.heard: list[LoopEvent | str] = []
        self.progress: LiveProgress | None = None

    def say(self, *messages: Said | Exception) -> None:
        for message in messages:
            self._says.put_nowait(message)

    async def receive(self) -> Said:
        message = await self._says.get()
        if isinstance(message, Exception) and not isinstance(message, ServiceError):
            raise message
        return message

    async def send(self, message: LoopEvent | str) -> None:
        self.heard.append(message)
        await asyncio.sleep(0)

    def begin(self) -> LiveOptions:
        if self._refused is not None:
            raise self._refused
        return self._options

    async def decode(self, message: Said) -> Iterable[Command[LoopEvent | str]]:
        if isinstance(message, ServiceError):
            raise message
        return message if isinstance(message, Iterable) else (message,)

    def encode(self, event: LoopEvent) -> Iterable[LoopEvent | str]:
        if isinstance(event, Ready):
            self.progress = event.progress
        return () if isinstance(event, Partial) else (event,)

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.heard if isinstance(event, Final)]

    async def hear(self, what: Callable[[object], bool]) -> None:
        while not any(map(what, self.heard)):
            await asyncio.sleep(0)


class _Metrics(NullMetrics):
    def __init__(self) -> None:
        self.sessions: list[float] = []

    def live_session_ended(self, *, audio_s: float) -> None:
        self.sessions.append(audio_s)


class _Quota:
    """So many seconds for everybody together."""

    def __init__(self, left_s: float) -> None:
        self._left_s = left_s
        self.charges: list[tuple[str, float]] = []

    async def admit(self, caller: str) -> None:
        raise NotImplementedError

    async def charge(self, caller: str, audio_s: float) -> None:
        self.charges.append((caller, audio_s))
        self._left_s -= audio_s
        if self._left_s < 0:
            raise RateLimitError("That was enough.")


class _World:
    def __init__(
        self,
        *,
        stream: Stream | None = None,
        quota: Quota = UNLIMITED,
        longest_idle_s: float | None = None,
        model: Model | None = None,
        options: LiveOptions = _OPTIONS,
        refused: ServiceError | None = None,
    ) -> None:
        self.model = model or Model(stream=stream or Stream(), max_window_s=12)
        self.drain = Drain(grace_s=1)
        self.metrics = _Metrics()
        self.client = _Client(options, refused=refused)
        session = StreamSession(self.model, Resampler(), _OPTIONS.context)
        self.loop = LiveLoop(
            session,
            self.drain,
            quota,
            self.metrics,
            self.client,
            self.client,
            caller="key bob",
            longest_idle_s=longest_idle_s,
        )

    async def run(self, *messages: Said | Exception) -> LiveEnd | ServiceError:
        self.client.say(*messages)
        async with no_loose_ends():
            end = await self.loop.run()
        assert self.model.open_streams == 0
        return end


def _audio(*numbers: int) -> SendAudio:
    return SendAudio(speech(*numbers).tobytes())


async def test_a_session_from_the_place_to_the_close() -> None:
    world = _World()

    assert (
        await world.run(_audio(1, 2), Finalize(), _audio(3), Clear(), KeepAlive(), _audio(4), Close()) is LiveEnd.CLOSED
    )
    assert isinstance(world.client.heard[0], Ready)
    assert world.client.texts == ["w1 w2", "w4"]
    assert Cleared() in world.client.heard
    assert (world.loop.utterances, world.loop.end) == (2, LiveEnd.CLOSED)
    audio_s = len(speech(1, 2, 3, 4)) / 8000
    assert world.loop.audio_s == audio_s
    assert world.metrics.sessions == [audio_s]


async def test_a_place_is_taken_before_the_first_message_and_transcription_begins_with_it() -> None:
    world = _World()
    running = asyncio.create_task(world.loop.run())
    await turns()

    assert [type(event) for event in world.client.heard] == [Ready]
    assert world.model.open_streams == 1
    assert world.loop.heard_s == world.loop.audio_s == 0
    world.client.say(Close())
    await running


async def test_the_first_message_says_how_and_costs_no_second_stream() -> None:
    world = _World()
    options = replace(_OPTIONS, sample_rate_hz=16_000)
    await world.run(Configure(options), _audio(1), Close())

    assert world.model.contexts == [_OPTIONS.context]
    assert world.client.heard[1] == Configured(0.0)
    assert world.loop.audio_s == len(speech(1)) / 16_000


async def test_another_context_takes_another_stream_in_the_same_place() -> None:
    world = _World()
    context = StreamContext(5, 2, 1)
    await world.run(Configure(replace(_OPTIONS, context=context)), _audio(1), Close())

    assert world.model.contexts == [_OPTIONS.context, context]


async def test_what_was_said_is_told_before_other_options_are_in_force() -> None:
    world = _World(model=_Fresh())
    other = replace(_OPTIONS, sample_rate_hz=16_000)
    await world.run((_audio(1, 2), Configure(other), _audio(3)), Close())

    final = next(event for event in world.client.heard if isinstance(event, Final))
    configured = Configured(len(speech(1, 2)) / 8000)
    assert world.client.heard.index(final) < world.client.heard.index(configured)
    assert world.client.texts == ["w1 w2", "w3"]
    assert world.loop.audio_s == len(speech(1, 2)) / 8000 + len(speech(3)) / 16_000
    assert world.client.progress is not None
    assert world.client.progress.heard_s == len(speech(1, 2)) / 8000 + len(speech(3)) / RATE_HZ


class _Fresh(Model):
    """Gives each stream by itself."""

    def __init__(self) -> None:
        super().__init__(stream=Stream(), max_window_s=12)

    @asynccontextmanager
    async def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AsyncGenerator[RecognitionStream]:
        self._stream = Stream()
        async with super().open_stream(context, decoding=decoding) as stream:
            yield stream


async def test_a_reply_is_sent_and_begins_nothing() -> None:
    world = _World()
    running = asyncio.create_task(world.loop.run())
    world.client.say(Reply("hello"))
    await world.client.hear(lambda event: event == "hello")
    await turns()
    world.client.say(Configure(_OPTIONS), Close())
    await running

    # A session of its own, before the options, would have had its final.
    assert world.client.heard[1:3] == ["hello", Configured(0.0)]


async def test_what_follows_the_close_is_ignored() -> None:
    world = _World()

    assert await world.run((Close(), _audio(1)), _audio(2), InvalidRequestError("No.")) is LiveEnd.CLOSED
    assert (world.client.texts, world.loop.audio_s) == ([""], 0)


async def test_a_shutdown_ends_a_session_with_its_last_words() -> None:
    world = _World()
    running = asyncio.create_task(world.run(_audio(1, 2)))
    await world.client.hear(lambda event: isinstance(event, Ready))
    await turns()
    await world.drain.finish()

    assert await running is LiveEnd.DRAINED
    assert world.client.texts == ["w1 w2"]


async def test_a_shutdown_ends_a_session_in_which_nothing_was_said() -> None:
    world = _World()
    await world.drain.finish()

    assert await world.run() is LiveEnd.DRAINED
    assert world.client.texts == [""]


async def test_a_shutdown_while_the_client_closes_is_a_shutdown() -> None:
    world = _World()
    await world.drain.finish()

    assert await world.run(Close()) is LiveEnd.DRAINED
    assert world.client.texts == [""]


async def test_who_sends_nothing_is_told_what_it_said_and_loses_its_place() -> None:
    world = _World(longest_idle_s=0.01)
    end = await world.run(_audio(1))

    assert isinstance(end, SessionIdleError)
    assert world.client.texts == ["w1"]
    assert world.client.heard[-1] == Failed(end)


async def test_who_only_keeps_its_place_is_told_that_it_said_nothing() -> None:
    world = _World(longest_idle_s=0.01)
    end = await world.run(KeepAlive())

    assert isinstance(end, SessionIdleError)
    assert world.client.texts == [""]


async def test_who_never_sent_anything_is_told_only_that() -> None:
    world = _World(longest_idle_s=0.01)
    end = await world.run()

    assert isinstance(end, SessionIdleError)
    assert world.client.heard[1:] == [Failed(end)]


@pytest.mark.leaping_clock
async def test_who_stops_sending_gets_a_final_and_goes_on() -> None:
    world = _World()
    running = asyncio.create_task(world.loop.run())
    world.client.say(_audio(1, 2), KeepAlive())
    await asyncio.sleep(2.4)
    assert world.client.texts == []
    await asyncio.sleep(0.2)
    assert world.client.texts == ["w1 w2"]
    await asyncio.sleep(100)
    world.client.say(_audio(3), Close())
    await running
    finals = [(event.text, event.cause) for event in world.client.heard if isinstance(event, Final)]
    assert finals == [("w1 w2", EndCause.SILENCE), ("w3", EndCause.ASKED)]


@pytest.mark.leaping_clock
async def test_nothing_ends_by_the_clock_where_the_listener_ends_it() -> None:
    world = _World()
    running = asyncio.create_task(world.loop.run())
    world.client.say(Configure(replace(_OPTIONS, endpointing=Endpointing(silence_s=None))), _audio(1))
    await asyncio.sleep(100)
    assert world.client.texts == []
    world.client.say(Close())
    await running


@pytest.mark.leaping_clock
async def test_a_gap_in_which_nothing_had_been_said_has_no_final() -> None:
    world = _World()
    running = asyncio.create_task(world.loop.run())
    world.client.say(SendAudio(bytes(_S)))
    await asyncio.sleep(100)
    world.client.say(Close())
    await running
    assert world.client.texts == [""]


class _SlowToEnd(Stream):
    """Takes most of a second to say what was said last."""

    async def flush(self) -> Hypothesis:
        await asyncio.sleep(0.9)
        return await super().flush()


@pytest.mark.leaping_clock
async def test_a_gap_that_ends_while_the_session_is_closed_changes_nothing() -> None:
    world = _World(stream=_SlowToEnd())
    running = asyncio.create_task(world.loop.run())
    world.client.say(_audio(1, 2))
    await asyncio.sleep(2)
    await world.drain.finish()

    assert await running is LiveEnd.DRAINED
    assert world.client.texts == ["w1 w2"]


@pytest.mark.parametrize("piece", [1, 7, 100])
async def test_audio_that_is_no_raw_audio_ends_the_session_and_is_named(piece: int) -> None:
    world = _World()
    data = b"fLaC\0\0\0\x22" + bytes(range(92))
    end = await world.run(*(SendAudio(data[at : at + piece]) for at in range(0, 100, piece)))

    assert isinstance(end, UndecodableAudioError)
    assert "FLAC, not raw mono pcm_f32le at 8000 Hz" in end.message


async def test_raw_audio_is_looked_at_only_at_its_beginning() -> None:
    world = _World()
    flac = b"fLaC\0\0\0\x22" * 10
    assert await world.run(SendAudio(bytes(1 << 13)), SendAudio(flac), Close()) is LiveEnd.CLOSED


async def test_what_is_wrong_in_the_middle_is_told_after_the_last_words() -> None:
    world = _World()
    end = await world.run(_audio(1), InvalidRequestError("What?"), _audio(2))

    assert isinstance(end, InvalidRequestError)
    assert world.client.texts == ["w1"]
    assert world.client.heard[-1] == Failed(end)


async def test_nobody_is_idle_who_waits_for_its_last_words() -> None:
    world = _World(stream=Stream(flush_errors={0: OverloadedError("Busy.", retry_after_s=0.1)}), longest_idle_s=0.02)
    # The close comes in the same turn of the event loop in which waiting for another message begins.
    await world.drain.finish()

    assert await world.run(_audio(1)) is LiveEnd.DRAINED
    assert world.client.texts == ["w1"]


async def test_the_quota_is_charged_a_second_as_it_begins_and_once() -> None:
    quota = _Quota(100)
    world = _World(quota=quota)
    await world.run(*(SendAudio(bytes(_S * 2 // 5)) for _ in range(6)), Close())

    assert quota.charges == [("key bob", 1)] * 3


async def test_who_exceeds_the_quota_is_told_its_last_words_and_then_that() -> None:
    world = _World(quota=_Quota(1))
    end = await world.run(_audio(1), SendAudio(bytes(_S)), _audio(2))

    assert isinstance(end, RateLimitError)
    assert world.client.texts == ["w1"]
    assert world.client.heard[-1] == Failed(end)
    assert world.metrics.sessions == [len(speech(1)) / 8000]


async def test_where_there_is_no_caller_nobody_is_charged() -> None:
    quota = _Quota(0)
    world = _World(quota=quota)
    session = StreamSession(world.model, Resampler(), _OPTIONS.context)
    world.client.say(_audio(1), Close())
    loop = LiveLoop(session, world.drain, quota, world.metrics, world.client, world.client)

    assert await loop.run() is LiveEnd.CLOSED
    assert quota.charges == []


@pytest.mark.parametrize(
    ("world", "messages", "error"),
    [
        (lambda: _World(model=Model(not_ready=ModelNotReadyError("Loading."))), [], ModelNotReadyError),
        (lambda: _World(refused=InvalidRequestError("What?")), [], InvalidRequestError),
        (_World, [InvalidRequestError("What?")], InvalidRequestError),
        (_World, [Configure(replace(_OPTIONS, language="fr"))], InvalidRequestError),
        (lambda: _World(stream=Stream(push_errors={0: InferenceError("It broke.")})), [_audio(1, 2)], InferenceError),
    ],
    ids=["place", "begin", "decode", "options", "model"],
)
async def test_what_fails_is_told_and_ends_the_session(
    world: Callable[[], _World], messages: list[Said], error: type[ServiceError]
) -> None:
    made = world()
    end = await made.run(*messages)

    assert isinstance(end, error)
    assert made.loop.end is end
    assert made.client.heard[-1] == Failed(end)
    assert len(made.metrics.sessions) == 1


async def test_a_full_service_says_so_before_any_message() -> None:
    class Full(Model):
        @asynccontextmanager
        async def open_stream(
            self,
            context: StreamContext,
            *,
            decoding: Decoding = GREEDY,  # noqa: ARG002 - the port has it
        ) -> AsyncGenerator[RecognitionStream]:
            if context:
                raise TooManyStreamsError("All are taken.")
            yield Stream()

    world = _World(model=Full())
    end = await world.run()

    assert isinstance(end, TooManyStreamsError)
    assert world.client.heard == [Failed(end)]


@pytest.mark.parametrize("error", [_ClientLeftError(), TimeoutError()])
async def test_what_the_channel_raises_passes_through(error: Exception) -> None:
    world = _World()
    with suppress(type(error)):
        await world.run(_audio(1), error)

    assert world.loop.end is None
    assert world.metrics.sessions == [len(speech(1)) / 8000]
    assert world.model.open_streams == 0


async def test_others_have_their_turn_within_a_message_of_many_commands() -> None:
    world, others_turns, seen = _World(), 0, list[int]()

    async def others() -> None:
        nonlocal others_turns
        while True:
            others_turns += 1
            await asyncio.sleep(0)

    def commands() -> Iterable[Command[str]]:
        for _ in range(20):
            seen.append(others_turns)
            yield SendAudio(b"\0" * 40)

    running = asyncio.create_task(others())
    world.client.say(commands(), Close())
    await world.loop.run()
    running.cancel()
    assert seen[1:] == sorted(set(seen[1:]))


def _interleaved(*channels: Sequence[int]) -> bytes:
    """The words of each channel, those of shorter ones followed by silence."""
    most = max(map(len, channels))
    told = [np.concatenate([speech(*numbers), silence((most - len(numbers)) * WORD_S)]) for numbers in channels]
    return np.stack(told, axis=1).astype("<f4").tobytes()


class _Apart(_Fresh):
    """Counts its streams; refuses more than `most` of them."""

    def __init__(self, *, most: int = 32) -> None:
        super().__init__()
        self._most = most
        self.streams: list[RecognitionStream] = []

    @asynccontextmanager
    async def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AsyncGenerator[RecognitionStream]:
        if self.open_streams >= self._most:
            raise TooManyStreamsError("All are taken.")
        async with super().open_stream(context, decoding=decoding) as stream:
            self.streams.append(stream)
            yield stream


_STEREO = replace(_OPTIONS, channels=2)


def _texts(world: _World, channel: int) -> list[str]:
    return [event.text for event in world.client.heard if isinstance(event, Final) and event.channel == channel]


@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_each_channel_is_transcribed_by_itself(piece: int) -> None:
    quota = _Quota(100)
    world = _World(model=_Apart(), quota=quota, options=_STEREO)
    audio = _interleaved((1, 2, 3), (4,))
    end = await world.run(*(SendAudio(audio[at : at + piece]) for at in range(0, len(audio), piece)), Close())

    assert end is LiveEnd.CLOSED
    assert (_texts(world, 0), _texts(world, 1)) == (["w1 w2 w3"], ["w4"])
    assert world.loop.utterances == 2
    # Its length is that of one channel; what is charged is that of both.
    assert world.loop.audio_s == len(speech(1, 2, 3)) / 8000
    assert world.metrics.sessions == [world.loop.audio_s]
    assert quota.charges == [("key bob", 2)]


async def test_one_channel_may_be_asked_for_its_final_and_all_of_them() -> None:
    world = _World(model=_Apart(), options=_STEREO)
    first, second, third, fourth = (SendAudio(_interleaved((n,), (n + 4,))) for n in range(4))
    await world.run(first, Finalize(channel=1), second, Finalize(), third, Clear(), fourth, Close())

    assert (_texts(world, 0), _texts(world, 1)) == (["w0 w1", "w3"], ["w4", "w5", "w7"])
    assert {event.channel for event in world.client.heard if isinstance(event, Cleared)} == {0, 1}


async def test_each_channel_has_a_place_from_the_beginning() -> None:
    world = _World(model=_Apart(), options=_STEREO)
    running = asyncio.create_task(world.loop.run())
    await turns()

    assert world.model.open_streams == 2
    world.client.say(Close())
    await running
    assert world.model.open_streams == 0


async def test_all_places_are_freed_where_there_are_too_few() -> None:
    world = _World(model=_Apart(most=1), options=_STEREO)
    end = await world.run()

    assert isinstance(end, TooManyStreamsError)
    assert world.client.heard == [Failed(end)]


async def test_the_first_message_may_say_that_there_are_more_channels() -> None:
    model = _Apart(most=2)
    world = _World(model=model)
    await world.run(Configure(_STEREO), SendAudio(_interleaved((1,), (2,))), Close())

    assert len(model.streams) == 2
    assert (_texts(world, 0), _texts(world, 1)) == (["w1"], ["w2"])


async def test_the_first_message_may_say_that_there_are_fewer_channels() -> None:
    model = _Apart(most=2)
    world = _World(model=model, options=_STEREO)
    running = asyncio.create_task(world.run(Configure(_OPTIONS), _audio(1)))
    await world.client.hear(lambda event: isinstance(event, Configured))

    assert model.open_streams == 1
    world.client.say(Close())
    await running
    assert world.client.texts == ["w1"]


@pytest.mark.parametrize("channels", [0, 17])
async def test_there_are_no_more_channels_than_are_read_apart(channels: int) -> None:
    world = _World(model=_Apart(), options=replace(_OPTIONS, channels=channels))
    end = await world.run()

    assert isinstance(end, InvalidRequestError)
    assert end.message == f"From 1 to 16 channels are transcribed each by itself, not {channels}."


async def test_a_shutdown_ends_every_channel_with_its_last_words() -> None:
    world = _World(model=_Apart(), options=_STEREO)
    running = asyncio.create_task(world.run(SendAudio(_interleaved((1, 2), (3, 4)))))
    await world.client.hear(lambda event: isinstance(event, Ready))
    await turns()
    await world.drain.finish()

    assert await running is LiveEnd.DRAINED
    assert (_texts(world, 0), _texts(world, 1)) == (["w1 w2"], ["w3 w4"])


@pytest.mark.leaping_clock
async def test_who_stops_sending_gets_a_final_of_every_channel() -> None:
    world = _World(model=_Apart(), options=_STEREO)
    running = asyncio.create_task(world.loop.run())
    world.client.say(SendAudio(_interleaved((1, 2), (3, 4))))
    await asyncio.sleep(2.6)

    assert (_texts(world, 0), _texts(world, 1)) == (["w1 w2"], ["w3 w4"])
    world.client.say(Close())
    await running


async def test_a_channel_that_fails_ends_the_session() -> None:
    class Failing(_Apart):
        @asynccontextmanager
        async def open_stream(
            self, context: StreamContext, *, decoding: Decoding = GREEDY
        ) -> AsyncGenerator[RecognitionStream]:
            async with super().open_stream(context, decoding=decoding):
                errors: dict[int, Exception] = {0: InferenceError("It broke.")} if len(self.streams) == 2 else {}
                yield Stream(push_errors=errors)

    world = _World(model=Failing(), options=_STEREO)
    end = await world.run(SendAudio(_interleaved((1, 2, 3), (4, 5, 6))))

    assert isinstance(end, InferenceError)
    assert world.client.heard[-1] == Failed(end)


async def test_what_one_channel_has_not_heard_is_not_heard() -> None:
    free = asyncio.Event()

    class Waiting(Stream):
        async def flush(self) -> Hypothesis:
            await free.wait()
            return await super().flush()

    class OneWaits(_Apart):
        @asynccontextmanager
        async def open_stream(
            self, context: StreamContext, *, decoding: Decoding = GREEDY
        ) -> AsyncGenerator[RecognitionStream]:
            async with super().open_stream(context, decoding=decoding) as stream:
                yield Waiting() if len(self.streams) == 2 else stream

    world = _World(model=OneWaits(), options=_STEREO)
    audio = SendAudio(_interleaved((1,), (2,)))
    running = asyncio.create_task(world.run(audio, Finalize(), audio))
    await turns()
    assert (_texts(world, 0), _texts(world, 1)) == (["w1"], [])
    assert world.loop.heard_s == WORD_S
    free.set()
    await turns()
    assert world.loop.heard_s == 2 * WORD_S
    world.client.say(Close())
    await running


async def test_a_file_of_several_channels_is_named() -> None:
    world = _World(model=_Apart(), options=_STEREO)
    end = await world.run(SendAudio(b"fLaC\0\0\0\x22" + bytes(range(92))))

    assert isinstance(end, UndecodableAudioError)
    assert "FLAC, not raw 2-channel pcm_f32le at 8000 Hz" in end.message
