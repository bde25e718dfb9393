"""``parakeet-service demo``: starts the service, transcribes a recording and a live stream, and stops it."""

import asyncio
import os
import secrets
import sys
import wave
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import cast

import httpx2

from ...assets import DEMO_RECORDING
from .exit_code import ExitCode
from .live_client import FRAME_S, LiveError, at_pace, bearer, connected
from .screen import Screen

_BYTES_PER_S = 32_000
_START_S = 120
_STOP_S = 40


class DemoError(Exception):
    """The demo failed; the message says where."""


async def demo() -> ExitCode:
    """Start the service, send it the recording at once, then as live speech, and stop it again."""
    _say("Starting the service with the small embedded model. It shows that everything")
    _say("works; it is much less accurate than the default model.")
    try:
        async with _running_server() as server:
            _say(f"\nPOST {server.address}/transcribe  {DEMO_RECORDING.name}")
            await _send_file(server)
            _say(f"\nWS {server.address}/ws  the same recording, streamed in real time")
            await _speak(server)
    except (DemoError, httpx2.HTTPError, LiveError, TimeoutError) as error:
        _say(f"The demo failed: {str(error) or type(error).__name__}")
        return ExitCode.FAULT
    _say("\nBoth transcripts arrived, and the service shut down cleanly. To run it yourself:")
    _say("  parakeet-service serve --model-id embedded     (small model, no download)")
    _say("  parakeet-service serve                         (downloads the default model first)")
    return ExitCode.DONE


@dataclass(frozen=True, slots=True)
class _Server:
    address: str
    key: str


@asynccontextmanager
async def _running_server() -> AsyncGenerator[_Server]:
    """The service in a process of its own, once it is ready; told to stop afterwards, and heeding it."""
    key = secrets.token_urlsafe()
    command = ("serve", "--model-id", "embedded", "--host", "127.0.0.1", "--port", "0")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parakeet_service", *command),
        env=os.environ | {"API_KEYS": key, "JOBS": "off", "LOG_LEVEL": "WARNING", "LOG_FORMAT": "console"},
        stderr=asyncio.subprocess.PIPE,
    )
    last_lines: deque[str] = deque(maxlen=30)
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    listener = asyncio.create_task(_listen_to(cast("asyncio.StreamReader", process.stderr), address, last_lines))
    try:
        async with asyncio.timeout(_START_S):
            server = _Server(await address, key)
            await _until_ready(server)
        yield server
        process.terminate()
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        code = await process.wait()
        await listener
        if code:
            _say("\n".join(("Last log lines of the service:", *last_lines)))
    if code:
        raise DemoError(f"the service exited with code {code} when asked to stop")


async def _listen_to(stderr: asyncio.StreamReader, address: asyncio.Future[str], last_lines: deque[str]) -> None:
    async for raw in stderr:
        line = raw.decode(errors="replace").rstrip()
        last_lines.append(line)
        if line.startswith("Listening on ") and not address.done():
            address.set_result(line.removeprefix("Listening on "))
    if not address.done():
        address.set_exception(DemoError("the service did not start"))


async def _until_ready(server: _Server) -> None:
    async with httpx2.AsyncClient(base_url=server.address, trust_env=False) as client:
        while True:
            answer = await client.get("/readyz")
            if answer.is_success:
                return
            await asyncio.sleep(0.1)


async def _send_file(server: _Server) -> None:
    began = monotonic()
    async with httpx2.AsyncClient(
        base_url=server.address, headers=bearer(server.key), trust_env=False, timeout=_START_S
    ) as client:
        response = await client.post("/transcribe", files={"file": (DEMO_RECORDING.name, DEMO_RECORDING.read_bytes())})
    response.raise_for_status()
    text = response.json()["text"]
    if not text:
        raise DemoError("the transcript is empty")
    Screen().print(text)
    _say(f"({monotonic() - began:.1f} s for {_duration_s():.1f} s of speech)")


async def _speak(server: _Server) -> None:
    url = server.address.replace("http", "ws", 1) + "/ws"
    finals = 0
    async with asyncio.timeout(_duration_s() + _START_S), connected(url, api_key=server.key) as client:
        with Screen(lines_for_partials=True) as screen:
            async with aclosing(client.converse(at_pace(_spoken(), bytes_per_s=_BYTES_PER_S))) as messages:
                async for message in messages:
                    screen.show(message)
                    finals += message["type"] == "final" and bool(message["text"])
    if not finals:
        raise DemoError("the live stream gave no text")


async def _spoken() -> AsyncGenerator[bytes]:
    with wave.open(str(DEMO_RECORDING)) as recording:
        while block := recording.readframes(int(recording.getframerate() * FRAME_S)):
            yield block


def _duration_s() -> float:
    with wave.open(str(DEMO_RECORDING)) as recording:
        return float(recording.getnframes() / recording.getframerate())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
