"""Requests that never come to an end, on real servers: uvicorn with our application, and our own command."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
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


@pytest.fixture(params=["plain uvicorn", "serve"])
async def running(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Running]:
    if request.param == "plain uvicorn":
        async with serving() as server:
            yield Running(server.process.pid, server.port)
            server.process.send_signal(signal.SIGTERM)
            assert await server.exit_code() == 0
    else:
        with started(SERVE, cwd=tmp_path) as command:
            address = await asyncio.to_thread(command.wait_for_line, "Listening on ")
            # What it takes to load the model would count as growth.
            await asyncio.to_thread(wait_until_ok, f"{address}/readyz")
            yield Running(command.process.pid, int(address.rpartition(":")[2]))
            assert await asyncio.to_thread(command.stop) == 0


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
