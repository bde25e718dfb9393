"""The server as it is run: a uvicorn process, real sockets, real signals."""

import asyncio
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
import websockets
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode

ROOT = Path(__file__).parents[2]
BOUNDARY = "xyz"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
RESET = struct.pack("ii", 1, 0)


def pcm(seconds: float) -> bytes:
    return np.full(round(seconds * 16000), 8000, "<i2").tobytes()


class Server:
    """A running server, its port and the lines of its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0
        self.log: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def live_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def read_log(self, *, until: str = "") -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            with suppress(json.JSONDecodeError):
                self.log.append(json.loads(line))
                if until and until in self.log[-1]["event"]:
                    return
        if until:
            raise AssertionError(f"the server ended: {self.log}")

    async def counts_become(self, **wanted: int) -> None:
        """Wait for it; the test's own time limit is the limit."""
        async with httpx2.AsyncClient(base_url=self.url) as client:
            while True:
                counts = (await client.get("/counts")).json()
                if all(counts[name] == value for name, value in wanted.items()):
                    return

    async def exit_code(self) -> int:
        await self.read_log()
        return await self.process.wait()

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]


@asynccontextmanager
async def serving(
    *,
    model: str = "scripted",
    grace_s: float = 60,
    send_timeout_s: float = 60,
    ready: str = "Uvicorn running",
    **env: str,
) -> AsyncGenerator[Server]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "--factory", "tests.integration.scripted_app:make", "--port", "0"),
        cwd=ROOT,
        env={
            **os.environ,
            "SERVER_MODEL": model,
            "SERVER_GRACE_S": str(grace_s),
            "SERVER_SEND_TIMEOUT_S": str(send_timeout_s),
            **env,
        },
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    server = Server(process)
    try:
        await server.read_log(until=ready)
        server.port = (
            int(server.log[-1]["event"].split(" (")[0].rpartition(":")[2]) if ready == "Uvicorn running" else 0
        )
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await server.exit_code()


async def hear_until_close(client: websockets.ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    heard = [json.loads(message) async for message in client]
    return heard, client.close_code


async def test_live_audio_over_a_real_socket() -> None:
    async with (
        serving() as server,
        websockets.connect(server.live_url, subprotocols=[websockets.Subprotocol("parakeet")]) as client,
    ):
        assert json.loads(await client.recv())["type"] == "ready"
        assert client.subprotocol == "parakeet"
        for at in range(0, 96_000, 3001):
            await client.send(pcm(3)[at : at + 3001])
        await client.send('{"type": "close"}')
        heard, code = await hear_until_close(client)
    finals = [message["text"] for message in heard if message["type"] == "final"]
    assert (finals, code) == (["This text comes from a script. Nobody"], 1000)


async def test_no_key_no_text_and_no_audio_is_in_the_log_at_any_level() -> None:
    keys = "bob:IN-A-HEADER,IN-A-PROTOCOL,IN-A-QUERY"
    async with serving(LOG_LEVEL="DEBUG", API_KEYS=keys) as server, httpx2.AsyncClient(base_url=server.url) as client:
        authorization = {"authorization": "Bearer IN-A-HEADER"}
        protocols = [websockets.Subprotocol("parakeet"), websockets.Subprotocol("key.IN-A-PROTOCOL")]
        offers: list[dict[str, Any]] = [{"additional_headers": authorization}, {"subprotocols": protocols}]
        for offer in offers:
            async with websockets.connect(server.live_url, **offer) as live:
                await live.send(pcm(3))
                await live.send('{"type": "close"}')
                heard, code = await hear_until_close(live)
                assert (any("text" in str(message.get("text")) for message in heard), code) == (True, 1000)
        with pytest.raises(InvalidStatus):
            await websockets.connect(f"{server.live_url}?key=IN-A-QUERY")
        answer = await client.post("/transcribe?key=IN-A-QUERY", files={"file": pcm(3)}, headers=authorization)
        assert answer.json()["text"].startswith("This text comes")
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code() == 0
    log = json.dumps(server.log)
    assert [line["key"] for line in server.lines("session") if "key" in line] == ["bob", "key-2"]
    assert "Uvicorn running" in log
    for secret in ("IN-A-", "This text", "comes", "BINARY", pcm(0.01).hex(" ")[:12]):
        assert secret not in log, secret


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_flushes_sessions_finishes_requests_and_refuses_the_rest(number: signal.Signals) -> None:
    async with serving(model="gated") as server, httpx2.AsyncClient(base_url=server.url, timeout=None) as client:
        request = asyncio.create_task(client.post("/transcribe", files={"file": pcm(0.4)}))
        await server.counts_become(decoders=1)
        async with websockets.connect(server.live_url) as live:
            assert json.loads(await live.recv())["type"] == "ready"
            await live.send(pcm(0.4))
            # Its answer shows that the audio before it has arrived.
            await live.send('{"type": "finalize"}')
            while json.loads(await live.recv())["type"] != "final":
                pass
            await live.send(pcm(0.4))
            server.process.send_signal(number)
            heard, code = await hear_until_close(live)
        finals = [message for message in heard if message["type"] == "final"]
        assert ([final["utterance"] for final in finals], code) == ([1], 1001)

        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "shutting_down")
        refused = await client.post("/transcribe", files={"file": pcm(0.4)})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert int(refused.headers["retry-after"]) > 0
        with pytest.raises(InvalidStatus) as refusal:
            await websockets.connect(server.live_url)
        assert refusal.value.response.status_code == 503
        assert not request.done()

        server.process.send_signal(signal.SIGUSR1)
        assert (await request).json() == {"text": "This"}
        assert await server.exit_code() == 0
    assert not [line for line in server.log if line["level"] in {"error", "critical"}]


@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGTERM],
        pytest.param(
            [signal.SIGHUP],
            # A server obeys that.
            marks=pytest.mark.skipif(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="nohup is in force"),
        ),
    ],
)
async def test_what_the_grace_time_cuts_off_is_told_so(signals: list[signal.Signals]) -> None:
    await be_cut_off(signals, grace_s=0.1)


@pytest.mark.parametrize("signals", [[signal.SIGTERM] * 2, [signal.SIGINT] * 2])
async def test_a_second_signal_ends_the_grace_time(signals: list[signal.Signals]) -> None:
    await be_cut_off(signals, grace_s=3600)


async def be_cut_off(signals: list[signal.Signals], *, grace_s: float) -> None:
    async with (
        serving(model="gated", grace_s=grace_s) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=None) as client,
        websockets.connect(server.live_url) as live,
    ):
        files = {"file": pcm(0.4)}
        plain = asyncio.create_task(client.post("/transcribe", files=files))
        openai = asyncio.create_task(client.post("/v1/audio/transcriptions", data={"model": "whisper-1"}, files=files))
        await server.counts_become(decoders=2)
        await live.send(pcm(0.4))
        await live.send('{"type": "finalize"}')
        while json.loads(await live.recv())["type"] != "final":
            pass
        await live.send(pcm(0.4))
        for number in signals:
            server.process.send_signal(number)
            await asyncio.sleep(0.2)
        for answer in (await plain, await openai):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
            assert answer.headers["x-request-id"]
            assert answer.headers["retry-after"]
        heard, code = await hear_until_close(live)
        assert ([message["utterance"] for message in heard if message["type"] == "final"], code) == ([1], 1001)
        assert await server.exit_code() == 0
    assert not [line for line in server.log if line["level"] in {"error", "critical"}]


async def test_a_server_whose_model_cannot_be_loaded_exits_as_one_that_could_not_start() -> None:
    async with serving(model="missing", ready="the model could not be loaded") as server:
        assert await server.exit_code() == 3
    (line,) = server.lines("the model could not be loaded")
    assert (line["level"], line["code"]) == ("critical", "model_load_failed")
    assert line["reason"].startswith("MODEL_ID: There is no such model.")


async def test_fifty_sockets_that_are_reset_leave_every_place_free() -> None:
    async with serving() as server:
        for at in range(50):
            raw = await open_live(server, receive_buffer=None)
            if at % 2:
                await asyncio.get_running_loop().sock_sendall(raw, masked(pcm(0.5)))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            raw.close()
        await server.counts_become(streams=0)
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code() == 0
    assert len(server.lines("session")) == 50
    assert not [line for line in server.log if line["level"] == "error"]


async def test_a_client_that_does_not_read_costs_no_memory_and_is_dropped() -> None:
    async with serving(model="wordy", send_timeout_s=1) as server:
        raw = await open_live(server, receive_buffer=4096)
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        talking = asyncio.create_task(talk_for_ever(raw))
        await server.counts_become(streams=1)
        await server.counts_become(streams=0)
        assert process.memory_info().rss - before < 150e6
        # Nor does it keep the server from going: it still does not read.
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code() == 0
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        raw.close()
    (line,) = server.lines("session")
    assert line["code"] == "client_does_not_read"


async def talk_for_ever(raw: socket.socket) -> None:
    frame = masked(pcm(1))
    while True:
        await asyncio.get_running_loop().sock_sendall(raw, frame)


async def test_an_upload_of_unknown_length_is_stopped_and_answered() -> None:
    async with serving(MAX_UPLOAD_BYTES="1000000") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"POST /transcribe HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        writer.write(chunk(HEAD))
        answering = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        while not answering.done():
            writer.write(chunk(b"x" * 65536))
            await writer.drain()
        head = (await answering).lower()
        assert head.startswith(b"http/1.1 413")
        assert b"connection: close" in head
        body = json.loads(await reader.readuntil(b"}}"))
        assert body["error"] | {"message": ""} == {"code": "upload_too_large", "message": "", "limit_bytes": 1_000_000}
        # The server still reads, so that nothing we sent resets the connection; our end is the end.
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await server.counts_become(decoders_opened=0)
        server.process.send_signal(signal.SIGTERM)
        await server.exit_code()
    assert [(line["status"], line["code"]) for line in server.lines("request") if line["route"] != "/counts"] == [
        (413, "upload_too_large")
    ]


async def test_a_client_that_announces_too_much_hears_why() -> None:
    async with serving(MAX_UPLOAD_BYTES="1000000") as server, httpx2.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/v1/audio/transcriptions", files={"file": bytes(5_000_000)}, data={"model": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "upload_too_large")


async def test_a_client_that_leaves_frees_the_work_at_once() -> None:
    async with serving(model="gated") as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = HEAD + pcm(0.4) + TAIL
        writer.write(
            f"POST /transcribe HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        writer.write(body)
        await server.counts_become(decoders=1)
        writer.transport.abort()
        await server.counts_become(decoders=0, cancelled=1)
        server.process.send_signal(signal.SIGTERM)
        await server.exit_code()
    (line,) = [line for line in server.lines("request") if line["route"] == "/transcribe"]
    assert (line["status"], line["level"]) == (499, "info")
    assert not [line for line in server.log if line["level"] == "error"]


async def open_live(server: Server, *, receive_buffer: int | None) -> socket.socket:
    """A WebSocket after its handshake and `ready`, as a bare socket."""
    raw = socket.socket()
    raw.setblocking(False)
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", server.port))
    await loop.sock_sendall(
        raw,
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    seen = b""
    while b'"ready"' not in seen:
        seen += await loop.sock_recv(raw, 4096)
    return raw


def masked(data: bytes) -> bytes:
    return Frame(Opcode.BINARY, data).serialize(mask=True)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
