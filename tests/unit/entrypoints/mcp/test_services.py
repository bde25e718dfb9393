"""The tools, on the service in this process and on one over HTTP: both are to tell the same."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest
from mcp import Client
from mcp.server.mcpserver.exceptions import ToolError
from starlette.requests import Request

from parakeet_service.application.transcription_jobs import Caller
from parakeet_service.domain.errors import InferenceError, JobNotFoundError, ServiceError
from parakeet_service.entrypoints.mcp.elsewhere import RemoteJobs, RemoteTranscriber, client_of
from parakeet_service.entrypoints.mcp.here import ServiceJobs
from parakeet_service.entrypoints.mcp.recordings import Recordings
from parakeet_service.entrypoints.mcp.tools import make_server
from parakeet_service.entrypoints.mcp.transcription import Format, JobOutput, Reading, Writing
from tests.fakes import NOT_AUDIO, FailingModel, FakeWebClient, SearchingModel
from tests.unit.entrypoints.jobs_world import jobs_world
from tests.unit.entrypoints.mcp.worlds import elsewhere, here
from tests.unit.entrypoints.world import World, a_settings, call, pcm, started

Connect: TypeAlias = Callable[..., AbstractAsyncContextManager[Client]]
FORMATS: tuple[dict[str, Any], ...] = (
    {},
    {"words": True},
    {"format": "json"},
    {"format": "srt", "words": True},
    {"format": "vtt"},
)
anywhere = pytest.mark.parametrize("connect", [here, elsewhere])


def write(directory: Path, data: bytes) -> Path:
    (directory / "a.wav").write_bytes(data)
    return directory


async def answer(client: Client, tool: str = "transcribe", **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refusal(client: Client, tool: str = "transcribe", **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return str(result.content[0])


@pytest.mark.parametrize("asked", FORMATS)
@pytest.mark.parametrize("channels", ["mix", "separate"])
async def test_a_service_elsewhere_writes_as_the_one_in_this_process(
    asked: dict[str, Any], channels: str, tmp_path: Path
) -> None:
    world = await started(window_s=5)
    if channels == "separate":
        world.decoder.channels = 2
    data, told = call(), list[dict[str, Any]]()
    for connect in (here, elsewhere):
        async with connect(world, write(tmp_path, data)) as client:
            told.append(await answer(client, path="a.wav", channels=channels, **asked))
    assert told[0] == told[1]
    assert told[0]["text"]
    if channels == "separate" and "words" in asked:
        assert {word["channel"] for word in told[0]["words"]} == {0, 1}


@anywhere
async def test_progress_is_told_in_seconds(connect: Connect, tmp_path: Path) -> None:
    world = await started(window_s=5)
    seconds = list[float]()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        assert message
        seconds.append(progress)

    async with connect(world, write(tmp_path, pcm(11))) as client:
        await client.call_tool("transcribe", {"path": "a.wav"}, progress_callback=on_progress)
        # The client calls back in tasks of their own, which may run after the result is there.
        while 11 not in seconds:
            await asyncio.sleep(0)
    assert seconds == sorted(seconds)
    assert seconds[-1] == 11


@anywhere
async def test_keywords_and_the_track_reach_the_service(connect: Connect, tmp_path: Path) -> None:
    world = await started(model=SearchingModel())
    async with connect(world, write(tmp_path, pcm(1))) as client:
        await answer(client, path="a.wav", keywords=["New York", 'Käte "K"\r\n--x'], track=2)
    assert isinstance(world.model, SearchingModel)
    assert world.decoder.tracks == [2]
    assert [one.phrases[0] for one in world.model.asked] == ["New York"]
    assert len(world.model.asked[0].phrases) == 2


@anywhere
@pytest.mark.parametrize(
    ("data", "arguments", "says"),
    [
        (NOT_AUDIO, {}, "undecodable_audio"),
        (b"", {}, "empty_audio"),
        (pcm(1), {"keywords": ["a"]}, "does not support keywords"),
        (pcm(700), {}, "audio_too_long"),
        (pcm(1), {"channels": "left"}, "separate"),
    ],
)
async def test_what_is_wrong_is_said_alike(
    connect: Connect, data: bytes, arguments: dict[str, Any], says: str, tmp_path: Path
) -> None:
    async with connect(await started(), write(tmp_path, data)) as client:
        assert says in await refusal(client, path="a.wav", **arguments)


@anywhere
async def test_a_failure_in_the_middle_is_told(connect: Connect, tmp_path: Path) -> None:
    world = await started(model=FailingModel(InferenceError("The model failed.")))
    async with connect(world, write(tmp_path, pcm(1))) as client:
        assert "The model failed. (inference_failed)" in await refusal(client, path="a.wav")


@anywhere
async def test_the_status_says_whether_the_model_is_ready(connect: Connect) -> None:
    world = World()
    async with connect(world) as client:
        assert "ready: " not in (await answer(client, "server_status"))["status"]
        await world.model.start()
        assert await answer(client, "server_status") == {"status": "ready: scripted"}


async def test_the_key_is_shown_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    world = await started(settings=a_settings(api_keys="letmein"))
    async with elsewhere(world, write(tmp_path, pcm(1)), authorization="Bearer wrong") as client:
        assert "(unauthorized)" in await refusal(client, path="a.wav")
    async with elsewhere(world, write(tmp_path, pcm(1)), **client_of("http://a", "letmein").headers) as client:
        assert await answer(client, path="a.wav")


async def test_a_slow_service_points_to_jobs(tmp_path: Path) -> None:
    world = await started(timeout_s=0)
    async with elsewhere(world, write(tmp_path, pcm(1))) as client:
        assert "start_transcription" in await refusal(client, path="a.wav")
    # In its own process there is no such limit.
    async with here(world, write(tmp_path, pcm(1))) as client:
        assert await answer(client, path="a.wav")


def odd(status: int, text: str, kind: str = "text/event-stream") -> httpx2.MockTransport:
    def handle(request: httpx2.Request) -> httpx2.Response:
        request.read()
        return httpx2.Response(status, text=text, headers={"content-type": kind})

    return httpx2.MockTransport(handle)


ODD = (
    (200, "", "too early"),
    (200, 'data: {"type":"progress","read_until":1}\n\n: ping\n\n', "too early"),
    (200, 'data: {"type":"progress"}\n\n', "another version"),
    (200, 'data: {"type":"done","text":"a"}\n\n', "another version"),
    (
        200,
        'data: {"type":"done","text":"a","duration":1,"timestamps":{"words":[{}],"segments":[]}}\n\n',
        "another version",
    ),
    (200, "data: [1]\n\n", "another version"),
    (200, "data: \udcff{\n\n".encode(errors="replace").decode(), "another version"),
    (200, 'data: {"error": {"message": "No.", "code": "no"}}\n\n', "No. (no)"),
    (502, "<html>Bad gateway</html>", "answered with status 502"),
    (404, '{"detail":"Not Found"}', "answered with status 404"),
    (307, "", "answered with status 307"),
)


@pytest.mark.parametrize(("status", "text", "says"), ODD)
async def test_what_is_no_such_service_is_told_in_a_sentence(status: int, text: str, says: str, tmp_path: Path) -> None:
    recordings = Recordings(root=write(tmp_path, pcm(1)), web=FakeWebClient(), longest_bytes=1 << 20)
    async with (
        httpx2.AsyncClient(base_url="http://a", transport=odd(status, text)) as http,
        Client(make_server(RemoteTranscriber(http), recordings, jobs=RemoteJobs(http))) as client,
    ):
        assert says in await refusal(client, path="a.wav")
        for tool, arguments in (("server_status", {}), ("start_transcription", {"path": "a.wav"})):
            assert "Error" in await refusal(client, tool, **arguments)
        assert "Error" in await refusal(client, "get_transcription", id="../../readyz?")


DAMAGED = (
    'data: {"type":"progress","words":[],"draft":[],"read_until":1.5}',
    'data: {"type":"done","text":"a b","duration":2.5,"timestamps":{"words":[{"text":"a","start":0,"end":1,"channel":0},'
    '{"text":"b","start":1,"end":2,"channel":1}],"segments":[{"text":"a b","start":0,"end":2}]},"warnings":["c"]}',
    'data: {"error":{"code":"inference_failed","message":"The model failed."}}',
)
ODDITIES = ("null", "-1", "1e999", "9" * 400, "\\ud800", "[" * 2000, '"', "\n", "data:", "true", "é", "\0")


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("style", ["json", "srt"])
async def test_damaged_answers_are_told_and_nothing_else_happens(count: int, style: Format) -> None:
    chance = random.Random(count)
    ends = set[str]()
    for _ in range(count):
        text = "\n\n".join([*chance.choices(DAMAGED[:2], k=chance.randint(0, 2)), chance.choice(DAMAGED)])
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(text) + 1)
            text = text[:at] + chance.choice(ODDITIES) + text[at + chance.randrange(6) :]
        async with httpx2.AsyncClient(base_url="http://a", transport=odd(200, text)) as http:
            try:
                await RemoteTranscriber(http)(
                    pieces(b""), Reading(), Writing(style), request=None, on_progress=lambda _: None
                )
                ends.add("text")
            except ToolError as error:
                ends.add(str(error).rpartition(" ")[2])
    assert {"text", "version.", "reached."} <= ends


async def test_a_service_that_cannot_be_reached_is_named_and_its_tools_are_listed(tmp_path: Path) -> None:
    def handle(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("Connection refused")

    recordings = Recordings(root=write(tmp_path, pcm(1)), web=FakeWebClient(), longest_bytes=1 << 20)
    async with (
        httpx2.AsyncClient(base_url="http://a.example", transport=httpx2.MockTransport(handle)) as http,
        Client(make_server(RemoteTranscriber(http), recordings, jobs=RemoteJobs(http))) as client,
    ):
        assert "http://a.example cannot be reached: Connection refused" in await refusal(client, path="a.wav")
        assert "cannot be reached" in await refusal(client, "server_status")
        assert len((await client.list_tools()).tools) == 4


async def names(client: Client) -> set[str]:
    return {tool.name for tool in (await client.list_tools()).tools}


async def test_the_tools_for_jobs_are_listed_where_there_are_jobs(tmp_path: Path) -> None:
    plain = {"transcribe", "server_status"}
    async with here(await started()) as client:
        assert await names(client) == plain
    async with elsewhere(await started(), tmp_path) as client:
        assert await names(client) == plain
        assert "The service has no jobs" in await refusal(client, "get_transcription", id="job_1")
    async with jobs_world(tmp_path / "data") as (world, _), elsewhere(world) as client:
        assert await names(client) == plain | {"start_transcription", "get_transcription"}


@pytest.mark.parametrize("job_id", ["", "..", "../../metrics", "job_1/events", "job_1?wait=60"])
async def test_what_is_no_id_is_asked_of_nobody(job_id: str, tmp_path: Path) -> None:
    async with jobs_world(tmp_path / "data") as (world, _), elsewhere(world) as client:
        assert "job_not_found" in await refusal(client, "get_transcription", id=job_id)


async def test_a_job_of_a_service_elsewhere_tells_channels_apart(tmp_path: Path) -> None:
    async with (
        jobs_world(tmp_path / "data") as (world, _),
        elsewhere(world, write(tmp_path, call())) as client,
    ):
        world.decoder.channels = 2
        direct = await answer(client, path="a.wav", format="json", words=True, channels="separate")
        job = await answer(client, "start_transcription", path="a.wav", channels="separate")
        ended = await answer(client, "get_transcription", id=job["id"], wait=60, format="json", words=True)
        assert ended["transcript"] == direct
        assert {word["channel"] for word in direct["words"]} == {0, 1}


async def test_a_job_of_a_service_elsewhere(tmp_path: Path) -> None:
    async with (
        jobs_world(tmp_path / "data") as (world, web),
        elsewhere(world, write(tmp_path, pcm(2.8))) as client,
    ):
        direct = await answer(client, path="a.wav", format="json", words=True)
        job = await answer(client, "start_transcription", path="a.wav")
        assert job["status"] in ("queued", "running")
        assert job["transcript"] is None
        ended = await answer(client, "get_transcription", id=job["id"], wait=60, format="json", words=True)
        assert (ended["status"], ended["done"], ended["duration"]) == ("completed", 2.8, 2.8)
        assert ended["transcript"] == direct
        captions = await answer(client, "get_transcription", id=job["id"], format="srt")
        assert captions["transcript"]["text"].startswith("1\n00:00:00,000 --> ")
        assert captions["transcript"]["words"] is None

        web.recordings["https://example.com/noise"] = NOT_AUDIO
        job = await answer(client, "start_transcription", url="https://example.com/noise", track=1)
        ended = await answer(client, "get_transcription", id=job["id"], wait=60)
        assert ended["status"] == "failed"
        assert ended["error"] == "This is no audio."
        assert ended["transcript"] is None

        assert "job_not_found" in await refusal(client, "get_transcription", id="job_" + "0" * 32)
        assert "less than or equal to 60" in await refusal(client, "get_transcription", id="job_1", wait=61)
        assert "url_not_allowed" in await refusal(client, "start_transcription", url="https://127.0.0.1/")
        assert "either path or url" in await refusal(client, "start_transcription")
        assert "no such file" in await refusal(client, "start_transcription", path="missing.wav")
        assert "track" in await refusal(client, "start_transcription", path="a.wav", track=0)
        keywords = ["a"]
        assert "not support keywords" in await refusal(client, "start_transcription", path="a.wav", keywords=keywords)


def of(key: str) -> Request:
    return Request({"type": "http", "headers": [(b"x-key", key.encode())]})


def owner_of(request: Request) -> Caller:
    return Caller(request.headers["x-key"])


async def pieces(data: bytes) -> AsyncGenerator[bytes]:
    yield data


async def test_jobs_of_this_process_have_owners_and_are_those_of_the_other_routes(tmp_path: Path) -> None:
    async with jobs_world(tmp_path) as (world, _):
        assert world.service.jobs is not None
        jobs = ServiceJobs(world.service.jobs, world.model, world.service.drain, caller_of=owner_of)
        job = await jobs.start(pieces(pcm(2.8)), Reading(), request=of("anyone"))
        ended = await jobs.find(job.id, Writing("json", words=True), wait_s=60, request=of("anyone"))
        assert ended.transcript is not None
        assert ended.transcript.words
        assert ended.transcript.text == "This text comes from a script. Nobody"
        with pytest.raises(JobNotFoundError):
            await jobs.find(job.id, Writing(), wait_s=0, request=of("bob"))
        # The owner of all where there are no keys: HTTP writes it in its own way.
        async with world.client() as client:
            assert (await client.get(f"/v1/jobs/{job.id}/result")).json()["text"] == ended.transcript.text
            captions = await client.get(f"/v1/jobs/{job.id}/result", params={"response_format": "srt"})
            assert captions.text.startswith("1\n")
        assert set(world.decoder.tracks) == {None}


async def test_jobs_of_this_process_refuse_what_they_cannot_read(tmp_path: Path) -> None:
    async with jobs_world(tmp_path, run=False) as (world, _):
        assert world.service.jobs is not None
        jobs = ServiceJobs(world.service.jobs, world.model, world.service.drain, caller_of=owner_of)
        for source, reading in (
            (pieces(pcm(1)), Reading(track=0)),
            (pieces(pcm(1)), Reading(keywords=("a",))),
            ("https://127.0.0.1/", Reading()),
        ):
            with pytest.raises(ServiceError):
                await jobs.start(source, reading, request=of("bob"))
        queued = await jobs.start(pieces(pcm(1)), Reading(), request=of("bob"))
        found = await jobs.find(queued.id, Writing(), wait_s=0, request=of("bob"))
        assert found == JobOutput(id=queued.id, status="queued", done=0)
        # A shutdown ends the waiting: nobody ever reads this one.
        await world.service.drain.finish()
        assert (await jobs.find(queued.id, Writing(), wait_s=60, request=of("bob"))).status == "queued"
