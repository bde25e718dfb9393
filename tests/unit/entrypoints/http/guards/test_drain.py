import asyncio
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs

from parakeet_service.application.drain import Drain
from parakeet_service.application.ports.speech_model import GREEDY, Decoding, RecognitionStream, StreamContext
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import ShuttingDownError
from parakeet_service.domain.hypothesis import Hypothesis
from parakeet_service.entrypoints.http.shutdown import drain_on_signals
from tests.fakes import GatedModel, LoudnessVad
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.http.openai.realtime.client import speaker, voice
from tests.unit.entrypoints.http.openai.test_sse import events
from tests.unit.entrypoints.world import World, a_settings, pcm


async def test_waits_for_what_runs_and_refuses_what_is_new() -> None:
    drain = Drain(grace_s=60)
    with drain.work():
        finishing = asyncio.create_task(drain.finish())
        await drain.wait_begun()
        assert drain.begun
        with pytest.raises(ShuttingDownError), drain.work():
            pass
        assert not finishing.done()
    await finishing


@pytest.mark.leaping_clock
async def test_does_not_wait_longer_than_the_grace_time_and_for_last_words() -> None:
    drain = Drain(grace_s=25)
    with drain.work():
        await drain.finish()
    assert asyncio.get_running_loop().time() == pytest.approx(27)


@pytest.mark.leaping_clock
async def test_work_that_is_bounded_is_stopped_when_the_grace_time_is_over() -> None:
    drain = Drain(grace_s=25)

    async def work() -> None:
        async with drain.bounded_work():
            await asyncio.sleep(1000)

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    await drain.finish()
    with pytest.raises(ShuttingDownError):
        await working
    assert asyncio.get_running_loop().time() == pytest.approx(25)


@pytest.mark.leaping_clock
async def test_a_drain_in_a_hurry_waits_for_last_words_alone() -> None:
    drain = Drain(grace_s=60)
    with drain.work():
        finishing = asyncio.create_task(drain.finish())
        await drain.wait_begun()
        drain.hurry()
        drain.hurry()
        await finishing
    assert asyncio.get_running_loop().time() == pytest.approx(2)


async def test_a_timeout_of_bounded_work_itself_stays_one() -> None:
    with pytest.raises(TimeoutError):
        async with Drain(grace_s=60).bounded_work():
            raise TimeoutError


@pytest.mark.leaping_clock
async def test_with_nothing_to_do_it_is_done_at_once() -> None:
    await Drain(grace_s=60).finish()
    assert asyncio.get_running_loop().time() == 0


class Caught:
    """A handler of signals that remembers them."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.event = asyncio.Event()

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        self.numbers.append(number)
        self.event.set()


@pytest.fixture
def caught() -> Iterator[Caught]:
    handler = Caught()
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    yield handler
    for number, former in before.items():
        signal.signal(number, former)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_is_handed_on_once_all_is_finished(caught: Caught, number: signal.Signals) -> None:
    drain = Drain(grace_s=60)
    with drain_on_signals(drain, has_failed=lambda: False):
        with drain.work():
            signal.raise_signal(number)
            await drain.wait_begun()
            assert caught.numbers == []
        await caught.event.wait()
    assert caught.numbers == [number]


async def test_a_second_signal_ends_the_grace_time_and_a_third_one_is_handed_on(caught: Caught) -> None:
    drain = Drain(grace_s=60)
    with drain_on_signals(drain, has_failed=lambda: False), drain.work():
        signal.raise_signal(signal.SIGTERM)
        await drain.wait_begun()
        signal.raise_signal(signal.SIGINT)
        await drain.wait_over()
        assert caught.numbers == []
        signal.raise_signal(signal.SIGINT)
        assert caught.numbers == [signal.SIGINT]


async def test_two_signals_at_one_moment_are_one(caught: Caught) -> None:
    drain = Drain(grace_s=60)
    with drain_on_signals(drain, has_failed=lambda: False):
        with drain.work():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            await drain.wait_begun()
            await asyncio.sleep(0)
            working = asyncio.create_task(drain.wait_over())
            await asyncio.sleep(0)
            assert not working.done()
        await working
    assert caught.numbers == [signal.SIGTERM]


async def test_leaves_the_handlers_as_they_were(caught: Caught) -> None:
    with drain_on_signals(Drain(grace_s=60), has_failed=lambda: False):
        assert signal.getsignal(signal.SIGTERM) is not caught
    assert signal.getsignal(signal.SIGTERM) is caught
    assert signal.getsignal(signal.SIGINT) is caught


async def test_changes_nothing_outside_the_main_thread(caught: Caught) -> None:
    async def elsewhere() -> None:
        with drain_on_signals(Drain(grace_s=60), has_failed=lambda: False):
            assert signal.getsignal(signal.SIGTERM) is caught

    await asyncio.to_thread(lambda: asyncio.run(elsewhere()))


async def test_a_service_that_goes_away_flushes_its_sessions_and_refuses_the_rest(caught: Caught) -> None:
    model = GatedModel()
    world = World(model=model)
    async with (
        world.app.router.lifespan_context(world.app),
        world.client() as client,
        world.live() as silent,
        world.live() as speaking,
    ):
        request = asyncio.create_task(client.post("/transcribe", files={"file": pcm(0.4)}))
        await model.at_work.wait()
        await silent.ready()
        await speaking.ready()
        await speaking.say(pcm(0.4))
        await speaking.said()
        signal.raise_signal(signal.SIGTERM)
        heard, code = await speaking.hear_until_close()
        assert ([message["text"] for message in heard if message["type"] == "final"], code) == (["This"], 1001)
        assert (await silent.hear_until_close())[1] == 1001

        ready, refused = await client.get("/readyz"), await client.get("/v1/models")
        assert (ready.status_code, ready.json()["code"]) == (503, "shutting_down")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        async with world.live() as late:
            assert (await late.next())["status"] == 503
        async with world.live(denial=False) as late:
            assert (await late.next())["code"] == 1001
        assert caught.numbers == []
        model.gate.set()
        assert (await request).status_code == 200
        await caught.event.wait()
    assert caught.numbers == [signal.SIGTERM]


async def test_a_service_that_goes_away_completes_what_was_said_in_realtime_sessions(caught: Caught) -> None:
    world = World(live_detector=LoudnessVad())
    async with world.app.router.lifespan_context(world.app), speaker(world) as silent, speaker(world) as speaking:
        await speaking.speak(voice(0.8))
        await silent.update(turn_detection=None)
        signal.raise_signal(signal.SIGTERM)
        assert (await speaking.hear_until_close(), await silent.hear_until_close()) == (1001, 1001)
        await caught.event.wait()
    assert speaking.transcripts == ["This text"]
    assert silent.kinds == ["session.created", "session.updated"]


async def test_what_a_second_signal_cuts_off_is_told_so(caught: Caught) -> None:
    model = GatedModel()
    world = World(model=model)
    async with (
        world.app.router.lifespan_context(world.app),
        world.client() as client,
        world.live() as speaking,
        speaker(world) as realtime,
    ):
        files = {"file": pcm(0.4)}
        requests = [
            asyncio.create_task(client.post("/transcribe", files=files)),
            asyncio.create_task(client.post("/v1/audio/transcriptions", data={"model": "whisper-1"}, files=files)),
        ]
        await model.at_work.wait()
        await speaking.ready()
        await speaking.say(pcm(0.4))
        await speaking.said()
        await realtime.speak(voice(0.8))
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        for answer in await asyncio.gather(*requests):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
            assert answer.headers["retry-after"] == "30"
            assert answer.headers["x-request-id"]
        heard, code = await speaking.hear_until_close()
        assert ([message["text"] for message in heard if message["type"] == "final"], code) == (["This"], 1001)
        assert await realtime.hear_until_close() == 1001
        assert realtime.transcripts
        await caught.event.wait()


async def test_a_session_that_cannot_say_its_last_words_is_told_why_it_ends(caught: Caught) -> None:
    world = World(model=DeafModel())
    async with world.app.router.lifespan_context(world.app), world.live() as speaking:
        await speaking.ready()
        await speaking.say(pcm(2))
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        heard, code = await speaking.hear_until_close()
        assert (heard[-1]["type"], heard[-1]["code"], code) == ("error", "shutting_down", 1001)
        await caught.event.wait()


class DeafModel(ScriptedModel):
    """Its streams never come to an end."""

    @asynccontextmanager
    async def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AsyncGenerator[RecognitionStream]:
        async with super().open_stream(context, decoding=decoding):
            yield DeafStream()


class DeafStream:
    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:  # noqa: ARG002
        await asyncio.Event().wait()
        raise AssertionError

    async def flush(self) -> Hypothesis:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.leaping_clock
@pytest.mark.parametrize(("path", "kind"), [("/transcribe", None), ("/v1/audio/transcriptions", "server_error")])
async def test_an_event_stream_that_the_grace_time_cuts_off_ends_with_an_error(
    caught: Caught, path: str, kind: str | None
) -> None:
    model = GatedModel()
    world = World(model=model)
    async with world.app.router.lifespan_context(world.app), world.client() as client:
        form = {"stream": "true", "model": "whisper-1"}
        request = asyncio.create_task(client.post(path, files={"file": pcm(0.4)}, data=form))
        await model.at_work.wait()
        # By then it has begun to answer, with a sign of life.
        await asyncio.sleep(15)
        signal.raise_signal(signal.SIGTERM)
        with capture_logs() as lines:
            answer = await request
        await caught.event.wait()
    assert answer.status_code == 200
    (error,) = (event["error"] for event in events(answer.text))
    assert (error["code"], error.get("type")) == ("shutting_down", kind)
    assert [line["code"] for line in lines if line["event"] == "request"] == ["shutting_down"]


@pytest.mark.parametrize("failed", [False, True])
async def test_uvicorn_exits_with_a_code_that_says_whether_the_service_failed(caught: Caught, failed: bool) -> None:  # noqa: FBT001
    server = uvicorn.Server(uvicorn.Config("none", log_config=None))
    server.started = True
    signal.signal(signal.SIGTERM, server.handle_exit)
    drain = Drain(grace_s=60)
    with drain_on_signals(drain, has_failed=lambda: failed):
        signal.raise_signal(signal.SIGTERM)
        while not server.should_exit:
            await asyncio.sleep(0)
    # What uvicorn captures it raises again after its shutdown, and dies of it.
    assert server._captured_signals == []  # pyright: ignore[reportPrivateUsage]
    # A server that has not started exits with 3.
    assert server.started != failed
    assert server.config.timeout_graceful_shutdown is not None
    assert caught.numbers == []


@pytest.mark.parametrize(
    ("binding", "keys", "warned"),
    [
        ({"host": "0.0.0.0"}, "", 1),  # noqa: S104
        ({"host": "0.0.0.0"}, "s3cret", 0),  # noqa: S104
        ({"host": "127.0.0.1"}, "", 0),
        ({"host": "0.0.0.0", "uds": "/run/parakeet"}, "", 0),  # noqa: S104
        ({"host": "0.0.0.0", "fd": 3}, "", 0),  # noqa: S104
    ],
)
async def test_an_open_door_is_told_of_however_uvicorn_was_started(
    caught: Caught, binding: dict[str, Any], keys: str, warned: int
) -> None:
    server = uvicorn.Server(uvicorn.Config("none", log_config=None, **binding))
    signal.signal(signal.SIGTERM, server.handle_exit)
    world = World(settings=a_settings(api_keys=keys))
    with capture_logs() as lines:
        async with world.app.router.lifespan_context(world.app):
            pass
    warnings = [line for line in lines if line["log_level"] == "warning" and "API_KEYS is empty" in line["event"]]
    assert [line["host"] for line in warnings] == ["0.0.0.0"] * warned  # noqa: S104
    assert caught.numbers == []
