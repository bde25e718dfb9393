import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event

from parakeet_service.entrypoints.wyoming.connection import Connection, Terms
from parakeet_service.entrypoints.wyoming.info import info_event
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.world import World, a_settings, pcm, started
from tests.unit.entrypoints.wyoming.memory import MemoryTransport, frame, in_memory

START = AudioStart(16000, 2, 1).event()
STOP = AudioStop().event()
NUMBERS = "One two three four."


def chunk(seconds: float) -> Event:
    return AudioChunk(16000, 2, 1, pcm(seconds)).event()


class Client:
    def __init__(self, reader: asyncio.StreamReader, transport: MemoryTransport) -> None:
        self._reader = reader
        self.transport = transport

    def send(self, *events: Event) -> None:
        for event in events:
            self._reader.feed_data(frame(event))

    def leave(self) -> None:
        self._reader.feed_eof()

    async def hears(self, kind: str, *, times: int = 1) -> list[tuple[str, dict[str, Any]]]:
        while [told for told, _ in self.transport.events()].count(kind) < times:
            await asyncio.sleep(0.001)
        return self.transport.events()


@asynccontextmanager
async def connected(world: World, *, silence_s: float | None = None) -> AsyncGenerator[Client]:
    reader = asyncio.StreamReader()
    writer, transport = in_memory(reader)
    connection = Connection(
        world.service,
        Terms(silence_s=silence_s, longest_audio_s=3600, longest_idle_s=60),
        reader,
        writer,
        caller="address 192.0.2.1",
        info=partial(info_event, world.model, "the-model", finds_end=silence_s is not None),
    )
    serving = asyncio.create_task(connection.serve())
    client = Client(reader, transport)
    yield client
    client.leave()
    await serving
    assert transport.closed


async def numbers(**given: Any) -> World:
    return await started(model=ScriptedModel(script=NUMBERS, words_per_s=1), **given)


async def test_answers_describe_before_the_model_is_loaded() -> None:
    async with connected(World()) as client:
        client.send(Event("describe"))
        (_, info), *_ = await client.hears("info")
        (program,) = info["asr"]
        assert program["requires_external_vad"]
        assert [(model["name"], model["languages"]) for model in program["models"]] == [("the-model", ["en"])]


async def test_audio_before_the_model_is_loaded_is_an_error_and_ends_the_connection() -> None:
    async with connected(World()) as client:
        client.send(START, chunk(1))
        (_, error), *_ = await client.hears("error")
        assert error["code"] == "model_not_ready"


async def test_each_audio_stop_has_one_transcript() -> None:
    async with connected(await numbers()) as client:
        client.send(START, chunk(4), STOP, chunk(2), STOP, STOP, Event("ping", {"text": "x"}))
        events = await client.hears("pong")
    assert [data["text"] for kind, data in events if kind == "transcript"] == [NUMBERS, "One two", ""]
    assert events[-1] == ("pong", {"text": "x"})


async def test_pings_and_descriptions_are_answered_within_audio_and_unknown_events_dropped() -> None:
    async with connected(await numbers()) as client:
        client.send(START, chunk(1), Event("ping"), Event("describe"), Event("voice-started"), STOP)
        events = await client.hears("transcript")
    assert {"pong", "info"} <= {kind for kind, _ in events}


async def test_nothing_new_begins_once_the_service_shuts_down_and_what_runs_is_finished() -> None:
    world = await numbers()
    async with connected(world) as speaking, connected(world) as late:
        speaking.send(START, chunk(4), Event("ping"))
        await speaking.hears("pong")
        draining = asyncio.create_task(world.service.drain.finish())
        await asyncio.sleep(0)
        late.send(START)
        assert (await late.hears("error"))[-1][1]["code"] == "shutting_down"
        events = await speaking.hears("transcript-stop")
        assert events[-2][1]["text"] == NUMBERS
        speaking.leave()
        await draining
        assert world.service.drain.running == 0


async def test_requests_are_counted_by_the_quota() -> None:
    async with connected(await numbers(settings=a_settings(rate_limit="1/day"))) as client:
        client.send(START, STOP, START, STOP)
        assert (await client.hears("error"))[-1][1]["code"] == "rate_limit_exceeded"


@pytest.mark.leaping_clock
@pytest.mark.parametrize("begun", [[], [START]])
async def test_an_idle_client_is_disconnected(begun: list[Event]) -> None:
    async with connected(await numbers()) as client:
        client.send(*begun)
        while not client.transport.closed:
            await asyncio.sleep(1)
        assert asyncio.get_running_loop().time() >= 60


async def test_a_client_that_leaves_frees_its_stream() -> None:
    world = await numbers()
    async with connected(world) as client:
        client.send(START, chunk(1), Event("ping"))
        await client.hears("pong")
        assert world.model.open_streams == 1
    assert world.model.open_streams == 0


async def test_a_defect_is_logged_and_told_without_its_details() -> None:
    world = await numbers()
    reader = asyncio.StreamReader()
    writer, transport = in_memory(reader)

    def broken() -> Event:
        raise ZeroDivisionError("secret")

    terms = Terms(silence_s=None, longest_audio_s=1, longest_idle_s=60)
    reader.feed_data(frame(Event("describe")))
    reader.feed_eof()
    with capture_logs() as logs:
        await Connection(world.service, terms, reader, writer, caller="address x", info=broken).serve()
    assert [data["code"] for _, data in transport.events()] == ["internal_error"]
    assert b"secret" not in transport.written
    assert [line["event"] for line in logs] == ["wyoming connection failed"]
