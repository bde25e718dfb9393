import asyncio
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs

from parakeet_service.application.drain import Drain
from parakeet_service.domain.errors import ShuttingDownError
from parakeet_service.entrypoints.http.shutdown import drain_on_signals
from tests.fakes import GatedModel, LoudnessVad
from tests.unit.entrypoints.http.openai.realtime.client import speaker, voice
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
async def test_does_not_wait_longer_than_the_grace_time() -> None:
    drain = Drain(grace_s=25)
    with drain.work():
        await drain.finish()
    assert asyncio.get_running_loop().time() == pytest.approx(25)


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


async def test_a_second_signal_is_handed_on_at_once(caught: Caught) -> None:
    drain = Drain(grace_s=60)
    with drain_on_signals(drain, has_failed=lambda: False), drain.work():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert caught.numbers == [signal.SIGINT]


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
