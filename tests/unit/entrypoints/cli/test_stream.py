import asyncio
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from parakeet_service.entrypoints.cli.exit_code import ExitCode
from parakeet_service.entrypoints.cli.live_client import LiveClient, LiveError, Message, at_pace, in_frames
from parakeet_service.entrypoints.cli.screen import Screen
from parakeet_service.entrypoints.cli.stream import Speech, stream
from tests.fakes import KILLS_DECODER, NOT_AUDIO
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.world import LiveClient as AsgiClient
from tests.unit.entrypoints.world import World, pcm, started

from .conftest import MakeService, main


class AsgiSocket:
    """A WebSocket of the application, as a client's library has it."""

    close_code: int | None = None

    def __init__(self, client: AsgiClient) -> None:
        self._client = client
        self.sent: list[bytes | str] = []

    async def send(self, message: bytes | str, /) -> None:
        if self.close_code is not None:
            raise ConnectionClosedError(Close(self.close_code, ""), None)
        self.sent.append(message)
        await self._client.say(message)

    async def __aiter__(self) -> AsyncIterator[bytes | str]:
        while (message := await self._client.next())["type"] != "websocket.close":
            if message["type"] == "websocket.send":
                yield message["text"]
        self.close_code = message["code"]
        if self.close_code != 1000:
            raise ConnectionClosedError(Close(message["code"], ""), None)


class DeadSocket:
    """One whose other side says `lines` and vanishes."""

    def __init__(self, *lines: str, close_code: int | None = 1006) -> None:
        self.close_code = close_code
        self._lines = lines

    async def send(self, _message: bytes | str, /) -> None:
        raise ConnectionClosedError(None, None)

    async def __aiter__(self) -> AsyncIterator[bytes | str]:
        for line in self._lines:
            yield line
        raise ConnectionClosedError(None, None)


class Line:
    """Connects to the application of a world; `sockets` are those that were opened."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sockets: list[AsgiSocket] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[LiveClient]:
        async with self._world.live() as client:
            self.sockets.append(AsgiSocket(client))
            yield LiveClient(self.sockets[-1])


@pytest.fixture
async def line() -> Line:
    """To a model that says "One two three." at one word a second."""
    return Line(await started(model=ScriptedModel(script="One two three.", words_per_s=1)))


@pytest.fixture
def speech(tmp_path: Path) -> str:
    """Three seconds that are not silent, as the fake decoder reads them."""
    path = tmp_path / "speech.raw"
    path.write_bytes(pcm(3))
    return str(path)


def dead(*lines: str, close_code: int | None = 1006) -> Callable[[], AbstractAsyncContextManager[LiveClient]]:
    @asynccontextmanager
    async def connect() -> AsyncGenerator[LiveClient]:
        yield LiveClient(DeadSocket(*lines, close_code=close_code))

    return connect


async def test_only_finals_go_to_standard_output(
    make_service: MakeService, line: Line, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = await stream(make_service(), Speech(speech, fast=True), line, words=False, as_json=False)

    assert code == ExitCode.DONE
    assert capsys.readouterr() == ("One two three.\n", "")
    (socket,) = line.sockets
    config, *frames, close = socket.sent
    assert json.loads(config) == {"type": "config", "encoding": "pcm_s16le", "sample_rate": 16000, "words": False}
    assert b"".join(frame for frame in frames if isinstance(frame, bytes)) == pcm(3)
    assert close == '{"type":"close"}'


async def test_words_are_lines_with_times(
    make_service: MakeService, line: Line, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await stream(make_service(), Speech(speech, fast=True), line, words=True, as_json=False)

    assert capsys.readouterr().out == "0.00\t0.75\tOne\n1.00\t1.75\ttwo\n2.00\t2.75\tthree.\n"


async def test_json_is_every_message(
    make_service: MakeService, line: Line, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await stream(make_service(), Speech(speech, fast=True), line, words=False, as_json=True)

    kinds = [json.loads(printed)["type"] for printed in capsys.readouterr().out.splitlines()]
    assert kinds[0] == "ready"
    assert kinds[-1] == "final"
    assert {"speech_started", "partial", "speech_stopped"} <= set(kinds)


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, ExitCode.UNREADABLE), (NOT_AUDIO, ExitCode.UNREADABLE), (b"", ExitCode.UNREADABLE), (KILLS_DECODER, 1)],
    ids=["missing", "no audio", "empty", "decoder dies"],
)
async def test_what_cannot_be_read_is_told_in_one_line(
    make_service: MakeService, line: Line, tmp_path: Path, content: bytes | None, code: int, capsys: Any
) -> None:
    path = tmp_path / "talk.mp3"
    if content is not None:
        path.write_bytes(content)

    assert await stream(make_service(), Speech(str(path)), line, words=False, as_json=False) == code

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"{path}: ")
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("lines", "close_code", "says"),
    [
        ((), 1006, "connection was lost"),
        ((), None, "connection was lost"),
        ((), 1001, "shutting down"),
        ((), 1009, "code 1009"),
        (('{"type":"error","code":"overloaded","message":"No.","retry_after_ms":5000}',), 1013, "No. (overloaded; try"),
        (("hello",), 1006, "not a parakeet-service"),
        (('["type"]',), 1006, "not a parakeet-service"),
    ],
)
async def test_a_service_that_fails_is_told_in_one_line(
    make_service: MakeService,
    speech: str,
    lines: tuple[str, ...],
    close_code: int | None,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    connect = dead(*lines, close_code=close_code)

    assert await stream(make_service(), Speech(speech), connect, words=False, as_json=False) == ExitCode.FAULT

    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.count("\n") == 1


async def test_options_that_the_service_refuses_are_told(
    make_service: MakeService, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line(await started(model=ScriptedModel(max_streams=0)))

    assert await stream(make_service(), Speech(speech), line, words=False, as_json=False) == ExitCode.FAULT
    assert "too_many_streams" in capsys.readouterr().err


@pytest.mark.leaping_clock
async def test_control_c_ends_the_speech_and_shows_what_was_said(
    make_service: MakeService, line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "long.raw"
    path.write_bytes(pcm(60))
    running = asyncio.create_task(stream(make_service(), Speech(str(path)), line, words=False, as_json=False))
    while not line.sockets or len(line.sockets[0].sent) < 20:
        await asyncio.sleep(0.01)

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert capsys.readouterr().out == "One two\n"
    assert line.sockets[0].sent[-1] == '{"type":"close"}'
    assert line.sockets[0].close_code == 1000


async def test_what_the_audio_raises_comes_after_what_was_said_before_it(line: Line) -> None:
    async def breaking() -> AsyncGenerator[bytes]:
        yield pcm(2)
        raise RuntimeError("broken")

    heard: list[Message] = []

    async def listen(client: LiveClient) -> None:
        async for message in client.converse(breaking()):
            heard.append(message)  # noqa: PERF401 - a list that is not finished would be lost

    async with line() as client:
        with pytest.raises(RuntimeError, match="broken"):
            await listen(client)
    assert heard[-1]["type"] == "final"
    assert heard[-1]["text"] == "One two"


async def test_a_conversation_that_is_lost_is_an_error_to_who_listens() -> None:
    async def audio() -> AsyncGenerator[bytes]:
        yield pcm(1)

    async with dead()() as client:
        with pytest.raises(LiveError):
            await anext(client.converse(audio()))


async def blocks(*sizes: int) -> AsyncGenerator[bytes]:
    for size in sizes:
        yield bytes(size)


async def test_frames_are_no_longer_than_asked_for_and_wait_for_nothing() -> None:
    assert [len(frame) async for frame in in_frames(blocks(5, 10, 3, 0), frame_bytes=4)] == [4, 1, 4, 4, 2, 3]


@pytest.mark.leaping_clock
async def test_a_frame_is_there_when_its_last_sample_was_spoken() -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    came_s = [clock() - began async for _ in at_pace(blocks(100, 200), bytes_per_s=10)]
    assert came_s == pytest.approx([10, 30])


@pytest.mark.parametrize(
    "arguments",
    [
        ("stream",),
        ("stream", "a.wav", "--url", "http://here"),
        ("stream", "a.wav", "--rate", "8000"),
        ("stream", "a.wav", "--encoding", "mulaw"),
        ("stream", "-", "--encoding", "mp3"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], make_service: MakeService) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments, configure=lambda _: lambda _: make_service())

    assert exit_.value.code == 2


def test_a_terminal_shows_the_draft_until_the_final_takes_its_place() -> None:
    shown = io.StringIO()
    with Screen(console=Console(file=shown, force_terminal=True, highlight=False, width=80)) as screen:
        screen.show({"type": "partial", "text": "One two thee", "draft": "thee"})
        assert "One two \x1b[2mthee\x1b[0m" in shown.getvalue()
        screen.show({"type": "final", "text": "One two three.", "words": []})
    assert "One two three." in shown.getvalue()
