"""``parakeet-service demo``: the whole service on this machine, heard and seen in a minute."""

import asyncio
import json
import os
import secrets
import sys
import wave
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import cast

import httpx2
from rich.console import Console
from rich.live import Live
from rich.text import Text
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from .service import ExitCode

_RECORDING = Path(__file__).parents[2] / "samples" / "demo.wav"
_FRAME_S = 0.1
_START_S = 120
_STOP_S = 40


class DemoError(Exception):
    """The demonstration did not go as it should; the message says where."""


async def demo() -> ExitCode:
    """Start the service, send it the recording at once, then as live speech, and stop it again."""
    _say("Starting the service with its small embedded model. It shows that everything")
    _say("works, not how well the real model reads (that is the default MODEL_ID).")
    try:
        async with _running_server() as server:
            _say(f"\nPOST {server.address}/transcribe  {_RECORDING.name}")
            await _send_file(server)
            _say(f"\nWS {server.address}/ws  the same recording, as fast as it was spoken")
            await _speak(server)
    except (DemoError, httpx2.HTTPError, WebSocketException, TimeoutError) as error:
        _say(f"The demonstration failed: {str(error) or type(error).__name__}")
        return ExitCode.FAULT
    _say("\nBoth transcripts came, and the service stopped as it should. Start it for yourself:")
    _say("  parakeet-service serve --model-id embedded     (small, at once)")
    _say("  parakeet-service serve                         (fetches the real model first)")
    return ExitCode.DONE


@dataclass(frozen=True, slots=True)
class _Server:
    address: str
    headers: dict[str, str]


@asynccontextmanager
async def _running_server() -> AsyncGenerator[_Server]:
    """The service in a process of its own, once it is ready; told to stop afterwards, and heeding it."""
    key = secrets.token_urlsafe()
    command = ("serve", "--model-id", "embedded", "--host", "127.0.0.1", "--port", "0")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parakeet_service", *command),
        env=os.environ | {"API_KEYS": key, "LOG_LEVEL": "WARNING"},
        stderr=asyncio.subprocess.PIPE,
    )
    last_lines: deque[str] = deque(maxlen=30)
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    listener = asyncio.create_task(_listen_to(cast("asyncio.StreamReader", process.stderr), address, last_lines))
    try:
        async with asyncio.timeout(_START_S):
            server = _Server(await address, {"Authorization": f"Bearer {key}"})
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
            _say("\n".join(("The service's last words:", *last_lines)))
    if code:
        raise DemoError(f"the service exited with code {code} when it was told to stop")


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
        base_url=server.address, headers=server.headers, trust_env=False, timeout=_START_S
    ) as client:
        response = await client.post("/transcribe", files={"file": (_RECORDING.name, _RECORDING.read_bytes())})
    response.raise_for_status()
    text = response.json()["text"]
    if not text:
        raise DemoError("the transcript is empty")
    _Screen().final(text)
    _say(f"({monotonic() - began:.1f} s for {_duration_s():.1f} s of speech)")


async def _speak(server: _Server) -> None:
    url = server.address.replace("http", "ws", 1) + "/ws"
    with _Screen() as screen:
        async with (
            connect(url, additional_headers=server.headers, proxy=None) as socket,
            asyncio.timeout(_duration_s() + _START_S),
        ):
            finals, _ = await asyncio.gather(_hear(socket, screen), _play(socket))
    if not finals:
        raise DemoError("nothing was heard in the live stream")


async def _hear(socket: ClientConnection, screen: "_Screen") -> int:
    """Show what comes until the service hangs up, and count the utterances."""
    finals = 0
    async for message in socket:
        event = json.loads(message)
        match event["type"]:
            case "partial":
                screen.partial(event["text"], event["draft"])
            case "final" if event["text"]:
                finals += 1
                screen.final(event["text"])
            case "error":
                raise DemoError(event["message"])
            case _:
                pass
    return finals


async def _play(socket: ClientConnection) -> None:
    """Send the recording at the speed at which it was spoken, and ask for the rest."""
    began = monotonic()
    with wave.open(str(_RECORDING)) as recording:
        frames = int(recording.getframerate() * _FRAME_S)
        sent = 0
        while block := recording.readframes(frames):
            await socket.send(block)
            sent += 1
            await asyncio.sleep(max(began + sent * _FRAME_S - monotonic(), 0))
    await socket.send('{"type":"close"}')


def _duration_s() -> float:
    with wave.open(str(_RECORDING)) as recording:
        return float(recording.getnframes() / recording.getframerate())


class _Screen:
    """Live text: on a terminal one paragraph that is rewritten, its draft dimmed; elsewhere a line per message."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)

    def __enter__(self) -> "_Screen":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def partial(self, text: str, draft: str) -> None:
        stable = text.removesuffix(draft)
        if self._console.is_terminal:
            self._live.update(Text.assemble(stable, (draft, "dim")), refresh=True)
        else:
            print(f"  {stable}[{draft}]" if draft else f"  {text}", flush=True)

    def final(self, text: str) -> None:
        if self._console.is_terminal:
            self._live.update(Text(), refresh=True)
            self._console.print(Text(text))
        else:
            print(text, flush=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
