"""A connection of its own from a front to a worker, for windows and outcomes.

Ray takes a call through a dozen threads, which costs more than all else where one window at a time is read; see ADR 0098.

A call is its number and the lengths of its two parts, then the parts; an answer is the call's number, whether it
failed, and its length, then what was answered or why it failed. Answers come in any order.
"""

import asyncio
import hmac
import itertools
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import Self, TypeAlias

import structlog

from .workers import WorkerLostError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

Answer: TypeAlias = Callable[[str, bytes, bytes], Awaitable[bytes]]
"""Answers a call: of which front, and its two parts."""

_CALL = Struct("<III")
_ANSWER = Struct("<I?I")
_KEY_BYTES = FRONT_BYTES = 16
"""Of the key that only those know who have asked the worker through Ray, and of a front's name."""
_READ_AHEAD = 1 << 20
"""Audio of half a minute in one piece: with less, the event loop stops reading and goes on again for each."""
_CONNECT_S = 10.0
_SILENT_S = 60
"""An end of which the system has heard nothing for so long is gone; a firewall forgets connections without a word."""
_PROBES = 5


@dataclass(frozen=True, slots=True)
class Door:
    """Where a worker listens, and what it must hear first: a caller can run code there."""

    host: str
    port: int
    key: bytes = field(repr=False)


class Line:
    """A front's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection; `to` makes one."""
        self._writer = writer
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._reading = asyncio.create_task(self._read(reader))

    @classmethod
    async def to(cls, door: Door, front: str) -> Self:
        """Connect in the name of `front`.

        Raises:
            WorkerLostError: Nobody is there.
        """
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(door.host, door.port, limit=_READ_AHEAD)
        except OSError as error:
            raise WorkerLostError(f"There is no connection to it at {door.host}:{door.port}: {error}") from error
        _keep_alive(writer)
        writer.write(door.key + front.encode())
        return cls(reader, writer)

    async def call(self, head: bytes, sound: bytes) -> bytes:
        """What the worker answers.

        Raises:
            RuntimeError: It could not: a defect.
            WorkerLostError: The connection has ended.
        """
        if self._reading.done() or self._writer.is_closing():
            raise WorkerLostError("The connection to it has ended.")
        number = next(self._numbers) % (1 << 32)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._writer.writelines((_CALL.pack(number, len(head), len(sound)), head, sound))
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """End it at once; who waits for an answer hears that the worker is lost."""
        # Not `close`, which waits until a worker that may be gone has taken what was sent.
        self._writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        reason = "The connection to it has ended."
        try:
            while True:
                number, failed, size = _ANSWER.unpack(await reader.readexactly(_ANSWER.size))
                answer = await reader.readexactly(size)
                future = self._waiting.get(number)
                if future is None or future.done():
                    continue  # the caller has left
                if failed:
                    future.set_exception(RuntimeError(answer.decode()))
                else:
                    future.set_result(answer)
        except asyncio.IncompleteReadError:
            pass
        except OSError as error:
            reason = f"The connection to it has ended: {error}"
        finally:
            self._writer.transport.abort()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(WorkerLostError(reason))


async def listen(host: str, answer: Answer) -> tuple[asyncio.Server, Door]:
    """Answer the calls of fronts that have the door's key, at any port of `host`, until the server is closed."""
    key = secrets.token_bytes(_KEY_BYTES)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _keep_alive(writer)
        try:
            front = await _front(reader, key)
            if front is None:
                _log.warning("stranger_at_worker")
            else:
                await _serve(reader, writer, front, answer)
        except (OSError, asyncio.IncompleteReadError):
            # It has left; what it has not been answered waits for it at its desk.
            return
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, host, 0, limit=_READ_AHEAD)
    port: int = server.sockets[0].getsockname()[1]
    return server, Door(host, port, key)


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # What the system has of these: with the last one, also while it still has something to send.
    pause_s = _SILENT_S // (1 + _PROBES)
    options = {
        "TCP_KEEPIDLE": pause_s,
        "TCP_KEEPINTVL": pause_s,
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": 1000 * _SILENT_S,
    }
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def _front(reader: asyncio.StreamReader, key: bytes) -> str | None:
    """Who has connected; ``None`` if it does not know the key."""
    async with asyncio.timeout(_CONNECT_S):
        said = await reader.readexactly(_KEY_BYTES + FRONT_BYTES)
    return said[_KEY_BYTES:].decode() if hmac.compare_digest(said[:_KEY_BYTES], key) else None


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, front: str, answer: Answer) -> None:
    async def run(number: int, head: bytes, sound: bytes) -> None:
        failed = False
        try:
            said = await answer(front, head, sound)
        except Exception as error:  # noqa: BLE001 - the front that waits for an answer must hear of it
            said, failed = f"{type(error).__name__}: {error}".encode(), True
        if not writer.is_closing():
            writer.writelines((_ANSWER.pack(number, failed, len(said)), said))

    running: set[asyncio.Task[None]] = set()
    while True:
        number, head_size, sound_size = _CALL.unpack(await reader.readexactly(_CALL.size))
        head, sound = await reader.readexactly(head_size), await reader.readexactly(sound_size)
        task = asyncio.create_task(run(number, head, sound))
        running.add(task)
        task.add_done_callback(running.discard)
