"""Home Assistant's protocol, by its official client, on a real server with the real model."""

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from wyoming.asr import Transcribe, TranscriptChunk
from wyoming.audio import AudioStop
from wyoming.client import AsyncTcpClient, AsyncUnixClient
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from zeroconf.asyncio import AsyncZeroconf

from parakeet_service.entrypoints.wyoming.connection import Terms
from parakeet_service.entrypoints.wyoming.discovery import SERVICE_TYPE, announced
from parakeet_service.entrypoints.wyoming.errors import CannotListenError
from parakeet_service.entrypoints.wyoming.server import WyomingServer
from tests.integration.processes import SAMPLE, Server, run, started, wait_until_ok
from tests.integration.wyoming_clients import (
    Pcm,
    as_home_assistant,
    in_format,
    in_real_time,
    read,
    read_until,
    recording,
    send,
    silence,
    text_of,
    transcribe,
)
from tests.unit.entrypoints.world import World

_SERVE = (sys.executable, "-m", "parakeet_service", "serve", "--port", "0")
_LISTENING = "Wyoming: listening on tcp://127.0.0.1:"


class Service:
    def __init__(self, server: Server, path: Path) -> None:
        self.server = server
        self.port = int(server.wait_for_line(_LISTENING))
        self.socket = path
        self.http = server.wait_for_line("Listening on ")

    def client(self) -> AsyncTcpClient:
        return AsyncTcpClient("127.0.0.1", self.port)

    def metric(self, name: str) -> float:
        text = httpx2.get(f"{self.http}/metrics", trust_env=False).text
        (value,) = re.findall(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE)
        return float(value)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    cwd = tmp_path_factory.mktemp("wyoming")
    path = cwd / "wyoming.sock"
    environment = {"MODEL_ID": "embedded", "LOG_FORMAT": "json", "WYOMING_PORT": "0", "WYOMING_SOCKET": str(path)}
    with started(_SERVE, cwd=cwd, **environment) as server:
        service = Service(server, path)
        wait_until_ok(f"{service.http}/readyz")
        yield service
        assert server.stop() == 0, "".join(server.lines)
        assert not path.exists()
    assert not [line for line in server.lines if '"level": "error"' in line or "Traceback" in line]


@pytest.fixture(scope="module")
def text(service: Service) -> str:
    """What the live WebSocket reads in the recording."""

    async def listen() -> str:
        url = service.http.replace("http", "ws") + "/ws"
        async with connect(url, ping_timeout=None) as client:
            await client.send(recording().data)
            await client.send('{"type":"close"}')
            messages: list[dict[str, Any]] = [json.loads(message) async for message in client]
        return " ".join(message["text"] for message in messages if message["type"] == "final" and message["text"])

    return asyncio.run(listen())


async def test_a_recording_reads_as_it_does_elsewhere(service: Service, text: str) -> None:
    async with service.client() as client:
        assert await transcribe(client, recording(), language="en") == text
    with SAMPLE.open("rb") as file:
        answer = httpx2.post(f"{service.http}/transcribe", files={"file": file}, trust_env=False)
    assert answer.json()["text"] == text


async def test_chunks_add_up_to_the_transcript_between_start_and_stop(service: Service, text: str) -> None:
    async with service.client() as client:
        await send(client, recording())
        events = await read_until(client, "transcript-stop")

    kinds = [event.type for event in events]
    assert kinds[0] == "transcript-start"
    assert kinds[-2:] == ["transcript", "transcript-stop"]
    assert set(kinds[1:-2]) == {"transcript-chunk"}
    chunks = [TranscriptChunk.from_event(event).text for event in events if event.type == "transcript-chunk"]
    assert len(chunks) > 1
    assert "".join(chunks) == text_of(events) == text


@pytest.mark.parametrize(("rate_factor", "width", "channels"), [(1, 4, 2), (1, 3, 1), (3, 2, 2), (1, 1, 1)])
async def test_any_format_is_read(service: Service, rate_factor: int, width: int, channels: int) -> None:
    async with service.client() as client:
        heard = await transcribe(client, in_format(rate_factor, width, channels))
    assert "committee that the work should be completed" in heard


async def test_several_requests_on_one_connection_have_one_transcript_each(service: Service, text: str) -> None:
    async with AsyncUnixClient(service.socket) as client:
        # The second one is sent before the first is answered.
        await send(client, recording())
        await send(client, silence(1))
        await client.write_event(Ping("still here").event())
        first = await read_until(client, "transcript-stop")
        second = await read_until(client, "transcript-stop")
        assert (text_of(first), text_of(second)) == (text, "")
        assert Pong.from_event(await read(client)).text == "still here"
        await client.write_event(AudioStop().event())
        assert text_of([await read(client)]) == ""


async def test_clients_side_by_side_do_not_disturb_each_other(service: Service, text: str) -> None:
    async def one() -> str:
        async with service.client() as client:
            return await transcribe(client, recording())

    assert await asyncio.gather(*(one() for _ in range(8))) == [text] * 8


async def test_home_assistant_gets_its_transcript_when_the_speaker_has_paused(service: Service, text: str) -> None:
    command, pause = recording().data[: 2 * 16000 * 7], silence(60).data

    heard, open_s = await as_home_assistant("127.0.0.1", service.port, in_real_time(Pcm(command + pause)))

    assert heard
    assert text.startswith(heard.rstrip(".,"))
    # Far less than the microphone would have stayed open.
    assert open_s < 60


async def test_home_assistant_gets_a_recording_that_it_sends_at_once_whole(service: Service, text: str) -> None:
    async def at_once() -> AsyncIterator[bytes]:
        yield recording().data

    heard, _ = await as_home_assistant("127.0.0.1", service.port, at_once())

    assert heard == text


async def test_what_follows_an_early_transcript_is_ignored_until_audio_stop(service: Service) -> None:
    spoken = Pcm(recording().data[: 2 * 16000 * 7] + silence(3).data)
    async with service.client() as client:
        await client.write_event(Transcribe(vad_sensitivity="aggressive").event())
        await client.write_event(spoken.start)
        reading = asyncio.create_task(read_until(client, "transcript-stop"))
        async for piece in in_real_time(spoken):
            await client.write_event(Pcm(piece).chunks()[0])
        assert text_of(await reading)
        for event in (*spoken.chunks()[:50], AudioStop().event(), Ping("next").event()):
            await client.write_event(event)
        # No second transcript.
        assert (await read(client)).type == "pong"


async def test_is_described_as_home_assistant_reads_it(service: Service) -> None:
    async with service.client() as client:
        await client.write_event(Describe().event())
        (program,) = Info.from_event(await read(client)).asr
    assert program.installed
    assert program.supports_transcript_streaming
    assert not program.requires_external_vad
    assert not program.prefers_auto_gain_enabled
    assert not program.prefers_noise_reduction_enabled
    assert [(model.name, model.installed, model.languages) for model in program.models] == [("embedded", True, ["en"])]


async def test_a_language_that_the_model_does_not_write_is_an_error(service: Service) -> None:
    async with service.client() as client:
        await send(client, recording(), request=Transcribe(language="de"), stop=False)
        error = await read(client)
        assert (error.type, error.data["code"]) == ("error", "invalid_request")
        assert await client.read_event() is None


async def test_metrics_count_the_audio(service: Service) -> None:
    name = 'parakeet_audio_seconds_total{source="live"}'
    before = service.metric(name)
    async with service.client() as client:
        await transcribe(client, silence(2))
    assert service.metric(name) == pytest.approx(before + 2)


def test_describes_itself_while_the_model_loads(tmp_path: Path) -> None:
    with started(_SERVE, cwd=tmp_path, MODEL_ID="embedded", WYOMING_PORT="0") as server:
        port = int(server.wait_for_line(_LISTENING))

        async def describe() -> Info:
            async with AsyncTcpClient("127.0.0.1", port) as client:
                await client.write_event(Describe().event())
                return Info.from_event(await read(client))

        assert asyncio.run(describe()).asr[0].models[0].languages == ["en"]
        assert not [line for line in server.lines if '"ready"' in line], "this came too late to show anything"


@pytest.mark.parametrize("arguments", [(), ("--no-http",)])
def test_sigterm_tells_what_was_said_and_ends(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with started((*_SERVE, *arguments), cwd=tmp_path, MODEL_ID="embedded", WYOMING_PORT="0") as server:
        port = int(server.wait_for_line(_LISTENING))
        asyncio.run(_until_ready(port))

        async def interrupted() -> str:
            async with AsyncTcpClient("127.0.0.1", port) as client, AsyncTcpClient("127.0.0.1", port) as idle:
                await send(client, recording(), stop=False)
                # Some of it has been read: the server is in the middle.
                await read_until(client, "transcript-chunk")
                server.process.terminate()
                events = await read_until(client, "transcript-stop")
                assert await client.read_event() is None
                assert await idle.read_event() is None
                return text_of(events)

        assert "before the end of the year" in asyncio.run(interrupted())
        assert server.wait() == 0
        http = [line for line in server.lines if "Listening on http" in line]
        assert len(http) == (0 if arguments else 1)


async def _until_ready(port: int) -> None:
    while True:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await send(client, silence(0.1))
            if (await read(client)).type != "error":
                return
        await asyncio.sleep(0.1)


async def test_audio_is_charged_to_the_address(tmp_path: Path) -> None:
    with started(
        (*_SERVE, "--no-http"), cwd=tmp_path, MODEL_ID="embedded", WYOMING_PORT="0", AUDIO_RATE_LIMIT="20/day"
    ) as server:
        port = int(server.wait_for_line(_LISTENING))
        await _until_ready(port)
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await send(client, recording())
            assert text_of(await read_until(client, "transcript-stop"))
            await send(client, recording())
            assert (await read_until(client, "error"))[-1].data["code"] == "rate_limit_exceeded"
        assert server.stop() == 0


def test_ends_where_the_model_cannot_be_loaded(tmp_path: Path) -> None:
    done = run("serve", "--no-http", cwd=tmp_path, MODEL_ID=str(tmp_path / "none"), WYOMING_PORT="0")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--no-http",)])
def test_a_taken_port_is_one_line_and_code_1(tmp_path: Path, service: Service, arguments: tuple[str, ...]) -> None:
    done = run("serve", "--port", "0", *arguments, cwd=tmp_path, MODEL_ID="embedded", WYOMING_PORT=str(service.port))
    assert done.returncode == 1
    assert f"Cannot listen on WYOMING_HOST 127.0.0.1, WYOMING_PORT {service.port}: " in done.stderr
    assert "Traceback" not in done.stderr


def _server(**given: Any) -> WyomingServer:
    terms = Terms(silence_s=None, longest_audio_s=1, longest_idle_s=1)
    usual: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": None,
        "socket_path": None,
        "most_connections": 1,
        "has_api_keys": False,
    }
    return WyomingServer(**{**usual, **given}, terms=terms, model_id="x")


async def test_a_socket_that_a_killed_server_left_is_replaced_and_nothing_else_is(
    tmp_path: Path, service: Service
) -> None:
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(left))
    async with _server(socket_path=left)(World().service), AsyncUnixClient(left) as client:
        await client.write_event(Ping().event())
        assert (await read(client)).type == "pong"
    assert not left.exists()

    no_socket = tmp_path / "precious"
    no_socket.write_text("data")
    for path in (service.socket, no_socket):
        with pytest.raises(CannotListenError, match="in use"):
            _server(socket_path=path)
    assert no_socket.read_text() == "data"


@pytest.mark.parametrize(
    ("host", "settings", "warning"),
    [
        ("127.0.0.1", {}, ""),
        ("0.0.0.0", {}, "may use this service. "),  # noqa: S104 - for as long as it takes
        ("0.0.0.0", {"has_api_keys": True}, "may use this service, although API_KEYS is set. "),  # noqa: S104 - the same
    ],
)
async def test_warns_of_an_open_door_whatever_the_keys(
    capsys: pytest.CaptureFixture[str], host: str, settings: dict[str, bool], warning: str
) -> None:
    async with _server(host=host, port=0, **settings)(World().service):
        told = capsys.readouterr().err
    assert warning in told
    assert told.startswith("WARNING: Wyoming has no keys") == bool(warning)


async def test_is_announced_on_the_network_while_it_serves() -> None:
    zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"])
    try:
        async with announced("127.0.0.1", 10300, "parakeet-service-test"):
            found = await zeroconf.async_get_service_info(SERVICE_TYPE, f"parakeet-service-test.{SERVICE_TYPE}", 60_000)
            assert found is not None
            assert (found.port, found.parsed_addresses()) == (10300, ["127.0.0.1"])
    finally:
        await zeroconf.async_close()
