"""A client of ``/ws``: audio goes out, messages come in; for the commands that speak to a running service."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Protocol, TypeAlias

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

Message: TypeAlias = dict[str, Any]

FRAME_S = 0.1
"""Audio in one frame where somebody listens meanwhile."""
_DONE, _GOING_AWAY = 1000, 1001
_PATIENCE_S = 600
"""A service that is sent audio faster than it reads makes the sender wait, and answers pings after that."""


class LiveError(Exception):
    """The conversation could not begin, or ended before its time; the message says why."""


class Socket(Protocol):
    """What a conversation needs of a WebSocket, as `websockets` has it."""

    @property
    def close_code(self) -> int | None:
        """Why it was closed; 1006 where nobody said so."""
        ...

    async def send(self, message: bytes | str, /) -> None:
        """Send a message; waits while many of them are unread.

        Raises:
            ConnectionClosed: It is closed.
        """
        ...

    def __aiter__(self) -> AsyncIterator[bytes | str]:
        """The messages that come, until it is closed; raises `ConnectionClosed` if that is not as it should be."""
        ...


class LiveClient:
    """One conversation."""

    def __init__(self, socket: Socket) -> None:
        """Begin on an open WebSocket; `connected` is the way here."""
        self._socket = socket

    async def configure(self, **options: object) -> None:
        """Say what this conversation is to be like; only before anything else."""
        await self._send(json.dumps({"type": "config", **options}))

    async def converse(self, audio: AsyncGenerator[bytes]) -> AsyncGenerator[Message]:
        """Send raw audio, and give what the service says meanwhile and afterwards.

        Raises:
            LiveError: It did not end as it should.
            Exception: Whatever `audio` raises, once everything has been said about what came before it.
        """
        speaking = asyncio.create_task(self._speak(audio))
        try:
            async for message in self.messages():
                yield message
        finally:
            speaking.cancel()
            await asyncio.wait([speaking])
        if not speaking.cancelled():
            speaking.result()

    async def close(self) -> None:
        """Ask for the rest of the text, and for the end."""
        await self._send('{"type":"close"}')

    async def messages(self) -> AsyncGenerator[Message]:
        """What the service says, an error included, until it has said everything.

        Raises:
            LiveError: It did not end as it should.
        """
        error: Message | None = None
        with suppress(ConnectionClosed):
            async for text in self._socket:
                message = _read(text)
                if message["type"] == "error":
                    error = message
                yield message
        if self._socket.close_code != _DONE:
            raise LiveError(_why(self._socket.close_code, error))

    async def _speak(self, audio: AsyncGenerator[bytes]) -> None:
        async with aclosing(audio):
            try:
                async for block in audio:
                    await self._send(block)
            finally:
                await self.close()

    async def _send(self, data: bytes | str) -> None:
        # Whoever reads the messages learns that the service has hung up, and why.
        with suppress(ConnectionClosed):
            await self._socket.send(data)


@asynccontextmanager
async def connected(url: str, *, api_key: str | None = None) -> AsyncGenerator[LiveClient]:
    """A conversation with the service at `url`, such as ``ws://127.0.0.1:8000/ws``; hangs up afterwards.

    Raises:
        LiveError: There is no such service, or it refuses.
    """
    try:
        # Audio hardly becomes smaller by compressing it, and that costs both sides more than all else here.
        socket = await connect(
            url,
            additional_headers=bearer(api_key),
            proxy=None,
            compression=None,
            max_size=None,
            ping_timeout=_PATIENCE_S,
        )
    except InvalidStatus as error:
        status, body = error.response.status_code, error.response.body
        raise LiveError(f"{url} refused the connection with HTTP status {status}{_reason(bytes(body))}") from error
    except (OSError, WebSocketException) as error:
        raise LiveError(f"{url} cannot be reached: {str(error) or type(error).__name__}") from error
    async with socket:
        yield LiveClient(socket)


def bearer(api_key: str | None) -> dict[str, str]:
    """The header that shows the key, if there is one."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


async def in_frames(blocks: AsyncIterable[bytes], *, frame_bytes: int) -> AsyncGenerator[bytes]:
    """The same bytes in pieces of at most `frame_bytes`."""
    async for block in blocks:
        for start in range(0, len(block), frame_bytes):
            yield block[start : start + frame_bytes]


async def at_pace(frames: AsyncIterable[bytes], *, bytes_per_s: float) -> AsyncGenerator[bytes]:
    """Each frame when a microphone would have it: once its last sample was spoken."""
    clock = asyncio.get_running_loop().time
    began, count = None, 0
    async for frame in frames:
        began = clock() if began is None else began
        count += len(frame)
        await asyncio.sleep(max(began + count / bytes_per_s - clock(), 0))
        yield frame


def _read(text: str | bytes) -> Message:
    try:
        message: Message = json.loads(text)
        message["type"]
    except (ValueError, KeyError, TypeError) as error:
        raise LiveError(f"This is not a parakeet-service; it sent {text[:80]!r}.") from error
    return message


def _why(code: int | None, error: Message | None) -> str:
    if error is not None:
        later = f"; try again in {error['retry_after_ms'] / 1000:g} s" if "retry_after_ms" in error else ""
        return f"{error['message']} ({error['code']}{later})"
    if code == _GOING_AWAY:
        return "The service is shutting down."
    return (
        "The connection was lost." if code in {None, 1006} else f"The service closed the connection with code {code}."
    )


def _reason(body: bytes) -> str:
    """What a refusal says of itself, in either of the service's two forms."""
    try:
        answer = json.loads(body)
        return f": {answer.get('error', answer)['message']}"
    except (ValueError, AttributeError, KeyError, TypeError):
        return ""
