"""Clients that reset their connection right after an upload cost the others nothing."""

import asyncio
import json
import signal
import socket
import struct
import sys
from pathlib import Path

import httpx2
import pytest

from parakeet_service.domain.audio import Samples
from tests.integration.processes import started, wait_until_ok
from tests.integration.recordings import encode
from tests.integration.test_server_process import FORM, HEAD, TAIL


def leave(port: int, recording: bytes, *, times: int) -> None:
    """Upload and reset, again and again; the upload must be so small that the server has it whole before the reset."""
    body = HEAD + recording + TAIL
    head = f"POST /transcribe HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head.encode() + body)
            # With this, closing sends a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def text_of(recording: bytes, client: httpx2.AsyncClient) -> str:
    while True:
        answer = await client.post("/transcribe", files={"file": recording})
        # On a slow machine those that have left may still take every place.
        if answer.status_code != 503 or answer.json()["error"]["code"] != "overloaded":
            assert answer.status_code == 200, answer.text
            text: str = answer.json()["text"]
            return text


@pytest.mark.parametrize("times", [300, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_clients_that_leave_cost_the_others_nothing(
    speech: Samples, tmp_path: Path, unused_tcp_port: int, times: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    command = (*(sys.executable, "-m", "uvicorn", "parakeet_service.main:app"), "--port", str(unused_tcp_port))
    settings = {"MODEL_ID": "embedded", "LOG_FORMAT": "json", "TMPDIR": str(tmp_path)}
    parts = speech, speech[: len(speech) // 2], speech[: len(speech) // 8]
    *recordings, short = (encode(part, "-c:a libmp3lame -b:a 32k", "mp3") for part in parts)
    with started((*command, "--loop", "uvloop"), cwd=tmp_path, **settings) as server:
        await asyncio.to_thread(wait_until_ok, f"{url}/readyz")
        async with httpx2.AsyncClient(base_url=url, timeout=None) as client:
            texts = [await text_of(recording, client) for recording in recordings]
            assert len(set(texts)) == 2
            leaving = asyncio.create_task(asyncio.to_thread(leave, unused_tcp_port, short, times=times))
            while True:
                is_last = leaving.done()
                assert await asyncio.gather(*(text_of(recording, client) for recording in recordings * 2)) == texts * 2
                if is_last:
                    break
            await leaving
        assert server.stop(signal.SIGTERM) == 0
    # The first lines are uvicorn's own.
    log = [json.loads(line) for line in server.lines if line.startswith("{")]
    assert not [line for line in log if line["level"] == "error" or line["event"].startswith("ffmpeg_")]
    assert [line for line in log if line.get("code") == "client_gone"]
