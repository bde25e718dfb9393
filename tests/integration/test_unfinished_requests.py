"""Requests that never come to an end, on real servers: uvicorn with our application, and our own command."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.integration.processes import started, wait_until_ok
from tests.integration.test_server_process import serving

MEBIBYTE = 1 << 20
SERVE = (sys.executable, "-m", "parakeet_service", "serve", "--model-id", "embedded", "--port", "0")


class Running(NamedTuple):
    """A server process and where it listens."""

    pid: int
    port: int


@asynccontextmanager
async def serving_by(how: str, where: Path, **settings: Any) -> AsyncGenerator[Running]:
    """A server that is told to go at the end, and must then go by itself."""
    if how == "uvicorn":
        async with serving(**settings) as server:
            yield Running(server.process.pid, server.port)
            server.process.send_signal(signal.SIGTERM)
            assert await server.exit_code() == 0
    else:
        with started(SERVE, cwd=where, **settings) as command:
            address = await asyncio.to_thread(command.wait_for_line, "Listening on ")
            # What it takes to load the model would count as growth.
            await asyncio.to_thread(wait_until_ok, f"{address}/readyz")
            yield Running(command.process.pid, int(address.rpartition(":")[2]))
            assert await asyncio.to_thread(command.stop) == 0


@pytest.fixture(params=["uvicorn", "serve"])
async def running(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Running]:
    async with serving_by(request.param, tmp_path) as server:
        yield server


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        yield reader, writer


async def refusal(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """The status and the error's code of an answer after which nothing follows."""
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    ("begin", "endless", "expected"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\n", b"a:b\r\n" * 13107, (431, "headers_too_large")),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: ", b"b" * 65536, (431, "headers_too_large")),
        (b"GET /", b"a" * 65536, (414, "url_too_long")),
    ],
    ids=["many headers", "one header", "url"],
)
async def test_headers_without_end_cost_no_memory(
    running: Running, begin: bytes, endless: bytes, expected: tuple[int, str]
) -> None:
    process = psutil.Process(running.pid)
    async with connected(running.port) as (reader, writer):
        answering = asyncio.create_task(refusal(reader))
        before = process.memory_info().rss
        writer.write(begin)
        for _ in range(20 * MEBIBYTE // len(endless)):
            writer.write(endless)
            await writer.drain()
        writer.write_eof()
        assert await answering == expected
        assert process.memory_info().rss - before < 15 * MEBIBYTE


@pytest.mark.parametrize("how", ["uvicorn", "serve"])
async def test_unfinished_requests_do_not_live_for_ever(how: str, tmp_path: Path) -> None:
    async with serving_by(how, tmp_path, HEADER_TIMEOUT="1.5") as server:
        files_before = psutil.Process(server.pid).num_fds()
        async with connected(server.port) as (reader, writer):
            writer.write(b"GET / HT")
            assert await refusal(reader) == (408, "header_timeout")
        async with connected(server.port) as (reader, writer):
            # Not a byte.
            assert await reader.read() == b""
        async with connected(server.port) as (reader, writer):
            writer.write(b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
            rest = asyncio.create_task(reader.read())
            while not rest.done():
                writer.write(b"x")
                await asyncio.sleep(0.01)
            with suppress(ConnectionError):
                await rest
        while psutil.Process(server.pid).num_fds() > files_before:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["uvicorn", "serve"])
async def test_a_handshake_that_cannot_be_read_is_answered_and_does_not_break_the_shutdown(
    how: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as clients, serving_by(how, tmp_path) as server:
        # Both clients stay beyond the end of the server, which must go with 0 all the same.
        reader, writer = await clients.enter_async_context(connected(server.port))
        _, half = await clients.enter_async_context(connected(server.port))
        half.write(b"GET /ws HTTP/1.1\r\n")
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Cookie: " + b"a" * 8200 + b"\r\n\r\n"
        )
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
