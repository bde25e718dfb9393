"""Large uploads, and those that never end, on a real server."""

import asyncio
import re
import signal
import struct
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.integration.processes import started, wait_until_ok
from tests.integration.test_server_process import FORM, HEAD, TAIL, Server, pcm, serving

MEBIBYTE = 1 << 20
PIECE = bytes(MEBIBYTE // 4)


def endless_wave() -> bytes:
    """The header of a WAVE file that does not know its length."""
    riff, unknown = b"WAVE", 0xFFFFFFFF
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", unknown, riff, b"fmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", unknown
    )


async def silence(size_bytes: int) -> AsyncIterator[bytes]:
    yield HEAD + endless_wave()
    for _ in range(size_bytes // len(PIECE)):
        yield PIECE
    yield TAIL


@asynccontextmanager
async def peak_memory_of(pid: int) -> AsyncGenerator[list[int]]:
    """Bytes that the process has resident, at most, beyond what it has at the beginning: the only item, at the end."""
    process = psutil.Process(pid)
    begin = peak = process.memory_info().rss
    grown: list[int] = []

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield grown
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        grown.append(peak - begin)


async def test_the_memory_does_not_grow_with_the_upload(tmp_path: Path, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    command = (sys.executable, "-m", "uvicorn", "parakeet_service.main:app", "--port", str(unused_tcp_port))
    settings = {"MODEL_ID": "embedded", "PROCESSING_TIMEOUT": "800", "TMPDIR": str(tmp_path), "LOG_FORMAT": "json"}
    with started(command, cwd=tmp_path, **settings) as server:
        await asyncio.to_thread(wait_until_ok, f"{url}/readyz")
        async with httpx2.AsyncClient(base_url=url, timeout=None, headers={"content-type": FORM}) as client:
            # What every upload needs is there, once the first was read.
            await client.post("/transcribe", content=silence(4 * MEBIBYTE))
            async with peak_memory_of(server.process.pid) as grown:
                answer = await client.post("/transcribe", content=silence(300 * MEBIBYTE))
            # Counted once the file is gone, which is after the answer; the test's own time limit is the limit.
            while await seconds_of_files(client) != pytest.approx(304 * MEBIBYTE / 32000):
                pass
            figures = (await client.get("/metrics")).text
    assert (answer.status_code, answer.json()) == (200, {"text": ""})
    assert 'parakeet_model_info{architecture="tdt"' in figures
    (read,) = re.findall(r"(?m)^parakeet_model_audio_seconds_total (.*)", figures)
    # Silence never reaches the model.
    assert float(read) == 0
    assert grown[0] < 80 * MEBIBYTE
    # MLX keeps what it compiled.
    assert {path.name for path in tmp_path.iterdir()} <= {"mlx"}


async def seconds_of_files(client: httpx2.AsyncClient) -> float:
    figures = (await client.get("/metrics")).text
    (seconds,) = re.findall(r'(?m)^parakeet_audio_seconds_total{source="file"} (.*)', figures)
    return float(seconds)


async def test_a_client_that_leaves_while_it_sends_frees_its_file_and_its_place() -> None:
    # Connections that are kept would be open files, too.
    closing = {"connection": "close"}
    async with serving(MAX_UPLOADS="1") as server, httpx2.AsyncClient(base_url=server.url, headers=closing) as client:
        open_before = psutil.Process(server.process.pid).num_fds()
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"POST /transcribe HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 1000000000\r\n\r\n".encode()
        )
        writer.write(HEAD)
        for _ in range(40):
            writer.write(PIECE)
            await writer.drain()
        # Its connection, and the file of what did not fit into memory.
        await files_become(server, open_before + 2)
        refused = await client.post("/transcribe", files={"file": pcm(0.4)})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        writer.transport.abort()
        await files_become(server, open_before)
        assert (await client.post("/transcribe", files={"file": pcm(0.4)})).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        await server.exit_code()
    assert [
        (line["status"], line["code"]) for line in server.lines("request") if line.get("code") == "client_gone"
    ] == [(499, "client_gone")]
    assert not [line for line in server.log if line["level"] == "error"]


async def files_become(server: Server, number: int) -> None:
    """Wait until the server has so many files and sockets open; the test's own time limit is the limit."""
    process = psutil.Process(server.process.pid)
    while process.num_fds() != number:
        await asyncio.sleep(0.01)


async def test_an_upload_that_stalls_is_answered_and_cut_off() -> None:
    async with serving(UPLOAD_PAUSE="0.2") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"POST /transcribe HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 1000000000\r\n\r\n".encode()
        )
        writer.write(HEAD)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 408")
        assert b"connection: close" in head
        writer.write_eof()
        assert b"upload_stalled" in await reader.read()
        writer.close()
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code() == 0


async def test_uploads_that_drip_give_their_places_back() -> None:
    async with serving(UPLOAD_PAUSE="3", MAX_UPLOADS="1") as server, httpx2.AsyncClient() as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"POST /transcribe HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 1000000000\r\n\r\n".encode()
        )
        writer.write(HEAD)
        answering = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        while not answering.done():
            writer.write(b"x")
            await asyncio.sleep(0.01)
        assert (await answering).startswith(b"HTTP/1.1 408")
        writer.transport.abort()
        while (await client.post(f"{server.url}/transcribe", files={"file": pcm(0.4)})).status_code == 503:
            pass
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code() == 0
    slow, *_ = [line for line in server.lines("request") if line["status"] == 408]
    assert slow["code"] == "upload_too_slow"
    assert len(HEAD) < slow["received_bytes"] < 10_000


@pytest.mark.parametrize(("trusted", "expected"), [("127.0.0.1", [200, 429, 200]), ("192.0.2.9", [200, 429, 429])])
async def test_a_proxy_that_is_trusted_says_whose_request_it_is(trusted: str, expected: list[int]) -> None:
    async with (
        serving(RATE_LIMIT="1/day", FORWARDED_ALLOW_IPS=trusted) as server,
        httpx2.AsyncClient(base_url=server.url) as client,
    ):
        answers = [
            await client.get("/v1/models", headers={"x-forwarded-for": address})
            for address in ("198.51.100.1", "198.51.100.1", "198.51.100.2")
        ]
        with suppress(ProcessLookupError):
            server.process.send_signal(signal.SIGTERM)
        await server.exit_code()
    assert [answer.status_code for answer in answers] == expected
