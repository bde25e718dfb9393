"""Calls over a socket to a process that answers them."""

import asyncio
import itertools
import socket
from asyncio import CancelledError, Future, StreamWriter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog
from msgspec import Raw, Struct
from msgspec.msgpack import Decoder

from . import messages
from .messages import Answer, BrokenMessageError, Call, Cancel, Failure, nothing, with_room

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

Result = TypeVar("Result")

_LOOK_EVERY_S = 0.1


class ProcessEndedError(Exception):
    """The process is gone, and with it the answer; or it could not even be started."""


class Connection:
    """One end of a socket, at whose other end a process answers. Make it with `open`, and `end` it."""

    _writer: StreamWriter
    greeting: Raw
    """What it said when it had loaded."""

    def __init__(self, *, pid: int | None) -> None:
        """Not connected yet; `pid` is the process at the other end, where that is known."""
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Raw]] = {}
        self._turn = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.ended = asyncio.Event()  # set once the process is gone
        self.answers = 0  # that came
        self.pid = pid

    @classmethod
    async def open(cls, path: str, *, on_end: Callable[[], None] = nothing) -> "Connection":
        """Connect to the process that listens at `path`, once there is one and it has loaded, however long that takes.

        `on_end` is called once it is gone, before any caller learns of that.
        """
        while True:
            connected = with_room(socket.socket(socket.AF_UNIX))
            try:
                connected.connect(path)
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                connected.close()
                await asyncio.sleep(_LOOK_EVERY_S)
                continue
            connection = cls(pid=None)
            try:
                await connection._attach(connected, nothing, on_end)
                connection.greeting = await connection._answer(0, messages.Greet())
            except ProcessEndedError:
                # It died while it was loading; its successor will listen.
                await connection.end(patience_s=0)
            except BaseException:
                await connection.end(patience_s=0)
                raise
            else:
                return connection

    async def _attach(
        self, connected: socket.socket, on_event: Callable[[Raw], None], on_end: Callable[[], None]
    ) -> None:
        # The loop closes the socket from here on, also if this is cancelled, and of a socket, unlike a pipe, Python
        # learns it: see ADR 0026.
        reader, self._writer = await asyncio.open_unix_connection(sock=connected, limit=messages.BUFFER_BYTES)
        self._tasks.append(asyncio.create_task(self._listen(reader, on_event, on_end)))

    async def call(self, request: Any, results: Decoder[Result]) -> Result:
        """Ask, and wait for the answer; on cancellation the process stops working on it.

        Raises:
            ProcessEndedError: The process ended before it answered.
            ServiceError: As the process raised it.
        """
        result = await self._call(next(self._numbers), request)
        try:
            return messages.decoded(result, results)
        except BrokenMessageError as error:
            self._break()
            raise ProcessEndedError from error

    @asynccontextmanager
    async def held(self, request: Any) -> AsyncGenerator[int]:
        """A call that goes on after its answer until this context is left; gives its number. Raises as `call` does."""
        number = next(self._numbers)
        await self._call(number, request)
        try:
            yield number
        finally:
            self._tell(Cancel(number))

    async def end(self, *, patience_s: float) -> str:
        """Close it, and say how it ended; leaves neither socket nor task. `patience_s` is for what has a process of its own."""
        del patience_s
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            self._writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return "disconnected"

    def _break(self) -> None:
        """Have nothing more to do with a process that is out of its mind."""
        self._writer.transport.abort()

    async def _call(self, number: int, request: Any) -> Raw:
        # The other's log lines name the request, as our own do.
        log = {name: str(value) for name, value in structlog.contextvars.get_contextvars().items()}
        return await self._answer(number, Call(number, request, log))

    async def _answer(self, number: int, message: Struct) -> Raw:
        if self.ended.is_set():
            raise ProcessEndedError
        answer: Future[Raw] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        sent = False
        try:
            # At most one frame is buffered on our side, however many wait; their samples are with them anyway.
            async with self._turn:
                # Of a broken connection the listener tells, and it tells everyone.
                with suppress(ConnectionError):
                    await self._writer.drain()
                sent = True
                self._tell(message)
            return await answer
        except CancelledError:
            if sent:
                self._tell(Cancel(number))
            raise
        finally:
            del self._waiting[number]

    def _tell(self, message: Struct) -> None:
        if not self.ended.is_set():
            self._writer.write(messages.frame(message))

    async def _listen(
        self, reader: asyncio.StreamReader, on_event: Callable[[Raw], None], on_end: Callable[[], None]
    ) -> None:
        try:
            while (message := await messages.receive(reader, messages.to_parent)) is not None:
                match message:
                    case Answer(number=number, result=result):
                        self.answers += 1
                        self._hand_over(number, result)
                    case Failure(number=number):
                        self._hand_over(number, message.error())
                    case messages.Event(event=event):
                        on_event(event)
        except BrokenMessageError as error:
            _log.error("child_process_broken", pid=self.pid, reason=str(error))
        finally:
            self.ended.set()
            on_end()
            for number in self._waiting:
                self._hand_over(number, ProcessEndedError())

    def _hand_over(self, number: int, outcome: Raw | Exception) -> None:
        waiting = self._waiting.get(number)
        # A call that was cancelled meanwhile does not wait any more.
        if waiting is None or waiting.done():
            return
        if isinstance(outcome, Exception):
            waiting.set_exception(outcome)
            # Asked for here: a caller that is cancelled at this moment will not, and asyncio would complain of that.
            waiting.exception()
        else:
            waiting.set_result(outcome)
