"""Fifty live sessions on the real model at once, half of which end as no session should."""

import asyncio
import json
import re
import socket
import struct
import sys
import time
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.processes import HANGS_S, SAMPLE, started, wait_until_ok

_SESSIONS = 50
_SECONDS = 5
_FRAME_BYTES = 6400
_RESET = struct.pack("ii", 1, 0)


def _audio() -> bytes:
    with wave.open(str(SAMPLE)) as file:
        assert file.getframerate() == 16000
        data: bytes = file.readframes(_SECONDS * 16000)
        return data


async def _say(client: ClientConnection, data: bytes) -> None:
    for at in range(0, len(data), _FRAME_BYTES):
        await client.send(data[at : at + _FRAME_BYTES])


def _check_stable(messages: list[dict[str, Any]]) -> None:
    """What was not a draft stays, in every later message of its utterance."""
    stable = ""
    for message in messages:
        if message["type"] == "partial":
            now = message["text"].removesuffix(message["draft"])
            assert now.startswith(stable)
            stable = now
        elif message["type"] == "final":
            assert message["text"].startswith(stable.strip())
            stable = ""


async def _polite(url: str, data: bytes) -> list[str]:
    async with connect(url, ping_timeout=None) as client:
        speaking = asyncio.create_task(_say(client, data))
        await speaking
        await client.send('{"type":"close"}')
        messages = [json.loads(message) async for message in client]
        assert client.close_code == 1000
    _check_stable(messages)
    return [message["text"] for message in messages if message["type"] == "final"]


async def _reset(client: ClientConnection) -> None:
    client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.transport.abort()


async def _abort(client: ClientConnection) -> None:
    client.transport.abort()


async def _talk_nonsense(client: ClientConnection) -> None:
    await client.send("{nonsense")


async def _fall_silent(client: ClientConnection) -> None:
    """Half open: nothing is read or sent any more, and nobody says so."""
    client.transport.pause_reading()
    await asyncio.sleep(2)
    await _reset(client)


_RUDE: list[Callable[[ClientConnection], Awaitable[None]]] = [_reset, _abort, _talk_nonsense, _fall_silent]


async def _rude(url: str, data: bytes, number: int) -> None:
    try:
        async with connect(url, ping_timeout=None, close_timeout=1) as client:
            # Each of them leaves at another place.
            await _say(client, data[: _FRAME_BYTES * (1 + number % 20)])
            await _RUDE[number % len(_RUDE)](client)
    except (ConnectionClosed, OSError):
        return


async def _all(url: str, data: bytes) -> list[list[str]]:
    polite = [_polite(url, data) for _ in range(_SESSIONS // 2)]
    rude = [_rude(url, data, number) for number in range(_SESSIONS // 2)]
    results = await asyncio.gather(*polite, *rude)
    return [result for result in results if result is not None]


def _streams(url: str) -> float:
    found = re.search(r"(?m)^parakeet_live_streams (\S+)$", httpx2.get(f"{url}/metrics", trust_env=False).text)
    assert found
    return float(found[1])


def _wait_for(condition: Callable[[], bool], *, within_s: float = HANGS_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("rounds", [1, pytest.param(100, marks=pytest.mark.soak)])
def test_none_disturbs_another_and_nothing_is_left(tmp_path: Path, rounds: int) -> None:
    command = [sys.executable, "-m", "parakeet_service", "serve", "--port", "0"]
    with started(command, cwd=tmp_path, MODEL_ID="embedded", MAX_STREAMS="64", LOG_FORMAT="json") as server:
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        live = url.replace("http", "ws") + "/ws"
        process = psutil.Process(server.process.pid)
        alone = asyncio.run(_polite(live, _audio()))
        assert any(alone)
        asyncio.run(_all(live, _audio()))
        open_files, resident = process.num_fds(), process.memory_info().rss

        for _ in range(rounds):
            assert asyncio.run(_all(live, _audio())) == [alone] * (_SESSIONS // 2)
        _wait_for(lambda: _streams(url) == 0)
        # Each look at the streams is a connection itself, which takes a moment to go.
        _wait_for(lambda: process.num_fds() <= open_files)
        assert process.memory_info().rss < 1.2 * resident
        assert server.stop() == 0
    assert not [line for line in server.lines if '"level": "error"' in line]
