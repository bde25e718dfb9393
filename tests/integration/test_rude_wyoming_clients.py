"""What Wyoming clients should not send, and how they should not leave."""

import asyncio
import json
import random
import re
import socket
import struct
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress

import httpx2
import psutil
import pytest
from wyoming.client import AsyncTcpClient
from wyoming.event import Event

from tests.integration.processes import HANGS_S, Server, started, wait_until_ok
from tests.integration.wyoming_clients import Pcm, recording, transcribe

_RESET = struct.pack("ii", 1, 0)
_AT_ONCE = 16
_MOST = 32


class Running:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = int(server.wait_for_line("Wyoming: listening on tcp://127.0.0.1:"))
        self.http = server.wait_for_line("Listening on ")
        self.process = psutil.Process(server.process.pid)
        wait_until_ok(f"{self.http}/readyz")

    async def text(self) -> str:
        async with AsyncTcpClient("127.0.0.1", self.port) as client:
            return await transcribe(client, recording())

    def open_streams(self) -> float:
        metrics = httpx2.get(f"{self.http}/metrics", trust_env=False).text
        found = re.search(r"(?m)^parakeet_live_streams (\S+)$", metrics)
        assert found
        return float(found[1])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    command = (sys.executable, "-m", "parakeet_service", "serve", "--port", "0")
    settings = {"WYOMING_PORT": "0", "WYOMING_CONNECTIONS": str(_MOST), "STREAM_IDLE": "2", "MAX_FILE_DURATION": "60"}
    with started(
        command, cwd=tmp_path_factory.mktemp("rude"), MODEL_ID="embedded", LOG_FORMAT="json", **settings
    ) as server:
        yield Running(server)
        assert server.stop() == 0
    assert not [line for line in server.lines if '"level": "error"' in line or "Traceback" in line]


def frame(event: Event) -> bytes:
    data = json.dumps(event.data).encode()
    payload = event.payload or b""
    header = {"type": event.type, "version": "1", "data_length": len(data), "payload_length": len(payload)}
    return json.dumps(header).encode() + b"\n" + data + payload


def conversation(chance: random.Random) -> list[bytes]:
    audio = Pcm(recording().data[: chance.randrange(0, 32_000)])
    events = [
        Event("describe"),
        Event("ping", {"text": "x"}),
        Event("transcribe", {"language": "en", "transcript_names": ["Kowalski"]}),
        audio.start,
        *audio.chunks(),
        Event("audio-stop"),
        Event("no-such-event", {"a": {"b": [1]}}),
    ]
    return [frame(event) for event in events]


_JUNK = (
    b"\n", b"{}\n", b"[]\n", b"null\n", b"[" * 60_000 + b"\n", b'{"type":1}\n', b'{"type":"ping","data":[]}\n',
    b'{"type":"audio-chunk","payload_length":-1}\n', b'{"type":"audio-chunk","payload_length":1e99}\n',
    b'{"type":"audio-chunk","payload_length":99999999999}\n', b'{"type":"describe","data_length":3}\nabc',
    b'{"type":"audio-start","data":{"rate":0,"width":2,"channels":1}}\n',
    b'{"type":"audio-start","data":{"rate":16000,"width":9,"channels":1}}\n',
    b'{"type":"audio-start","data":{"rate":16000,"width":2,"channels":0}}\n',
    b'{"type":"audio-start","data":{"rate":16000,"width":true,"channels":1}}\n',
    b'{"type":"audio-start","data":{"rate":1e400}}\n', b'{"type":"audio-stop","data":{"a":"\\ud800"}}\n',
    b'{"type":"ping","data":{"text":"\\ud800"}}\n', b'{"type":"ping","data":{"text":7}}\n',
    b'{"type":"transcribe","data":{"language":5}}\n', b'{"type":"transcribe","data":{"language":"\\u0000"}}\n',
    b"\xff\xfe\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 70_000,
)  # fmt: skip


def mutated(message: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(message))
    changed = bytearray(message)
    changed[at] ^= 1 << chance.randrange(8)
    return chance.choice(
        (
            b"",
            message[:at],
            message[at:],
            message + message,
            bytes(changed),
            message[:at] + chance.randbytes(chance.randrange(1, 9)) + message[at:],
            # A number that is another one.
            re.sub(rb"\d+", lambda _: str(chance.choice((0, 1, 7, 65_536, 2**31))).encode(), message, count=2),
            chance.choice(_JUNK),
        )
    )


async def converse(port: int, seed: int) -> int:
    """One conversation in which every third message is damaged; how many those were."""
    chance = random.Random(seed)
    messages = conversation(chance)
    damaged = sorted(chance.sample(range(len(messages)), len(messages) // 3))
    for place in damaged:
        messages[place] = mutated(messages[place], chance)
    with suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            with suppress(OSError):
                writer.writelines(messages)
                await writer.drain()
                if chance.randrange(2):
                    writer.write_eof()
                    while await reader.read(1 << 16):
                        pass
            if chance.randrange(4) == 0:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        finally:
            writer.transport.abort()
    return len(damaged)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANGS_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("messages", [2_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_damaged_messages_leave_nothing(running: Running, messages: int) -> None:
    text = asyncio.run(running.text())
    open_files = running.process.num_fds()

    async def storm() -> int:
        sent, seed = 0, 0
        while sent < messages:
            sent += sum(await asyncio.gather(*(converse(running.port, seed + n) for n in range(_AT_ONCE))))
            seed += _AT_ONCE
        return sent

    assert asyncio.run(storm()) >= messages
    wait_for(lambda: running.open_streams() == 0)
    wait_for(lambda: running.process.num_fds() <= open_files)
    assert asyncio.run(running.text()) == text


async def test_who_comes_when_all_places_are_taken_is_told_so_and_may_come_later(running: Running) -> None:
    taken = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(_MOST)]
    async with AsyncTcpClient("127.0.0.1", running.port) as late:
        event = await late.read_event()
        assert event is not None
        assert event.data["code"] == "too_many_connections"
        assert await late.read_event() is None
    for _, writer in taken:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(HANGS_S):
        while not await _is_served(running.port):
            await asyncio.sleep(0.1)


async def _is_served(port: int) -> bool:
    async with AsyncTcpClient("127.0.0.1", port) as client:
        with suppress(OSError):
            await client.write_event(Event("ping"))
            answer = await client.read_event()
            return answer is not None and answer.type == "pong"
    return False


@pytest.mark.parametrize("begun", [b"", b'{"type":"desc', frame(recording().start)])
async def test_who_sends_nothing_is_disconnected(running: Running, begun: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(begun)
    async with asyncio.timeout(HANGS_S):
        told = await reader.read()
    assert (b"session_idle" in told) == begun.endswith(b"}")
    writer.close()


async def test_audio_without_an_end_is_cut_off(running: Running) -> None:
    async with AsyncTcpClient("127.0.0.1", running.port) as client:
        with suppress(OSError):
            for event in (recording().start, *(Pcm(bytes(1 << 19)).chunks() * 4)):
                await client.write_event(event)
        told = b"".join([event.data.get("code", "").encode() async for event in _events(client)])
    assert told == b"audio_too_long"


async def _events(client: AsyncTcpClient) -> AsyncGenerator[Event]:
    while (event := await client.read_event()) is not None:
        yield event


async def test_who_reads_nothing_holds_up_nobody(running: Running) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    pings = frame(Event("ping", {"text": "x" * 60_000}))
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(2):
            for _ in range(1000):
                writer.write(pings)
                await writer.drain()
    assert await _is_served(running.port)
    writer.transport.abort()
