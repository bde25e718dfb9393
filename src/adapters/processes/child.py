"""The child process: makes the host that the recipe names, and has it answer the parent's calls.

It lives as long as its parent: when the socket ends, however the parent ended, so does it.
"""

import asyncio
import faulthandler
import os
import pickle
import signal
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog
from msgspec import Struct
from msgspec.msgpack import Decoder
from uvicorn.loops.auto import auto_loop_factory

from ...domain.errors import InferenceError, ModelLoadError, ServiceError
from . import messages
from .messages import Answer, BrokenMessageError, Call, Event, Failure, nothing, with_room

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_EVENTS_S = 0.05
"""How long an event may wait for others."""

Reply: TypeAlias = Callable[[Any], Awaitable[None]]
"""Sends the answer to a call."""


Handle: TypeAlias = Callable[[int, Any, Reply], Awaitable[None]]
"""Takes a call's number and request, and replies once. It is cancelled when the call is, which may be after the reply."""


@dataclass(frozen=True, slots=True)
class Host:
    """What does the work in the child.

    Attributes:
        requests: The type of its requests.
        greeting: A description of it for who asks.
        connect: Gives what handles the calls of one connection, whose numbers are its own.
    """

    requests: Any
    greeting: Any
    connect: Callable[[], Handle]


MakeHost: TypeAlias = Callable[[Callable[[Any], None]], AbstractAsyncContextManager[Host]]
"""Loads a host, and finishes what runs when it is left. It is given what tells the parent of events, from any thread."""


class Peer:
    """Who asks: the parent, or another process that has connected."""

    _requests: Decoder[Any]

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        # Who has drained it may exit.
        writer.transport.set_write_buffer_limits(0)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._order = asyncio.Lock()  # of the calls that wait for those
        self._waiting = 0
        self._handle: Handle | None = None
        self.before_sending: Callable[[], None] = nothing

    async def serve(self, host: Host) -> None:
        """Answer another process until it is gone."""
        self.meet(host)
        try:
            while (message := await messages.receive(self._reader, messages.to_child)) is not None:
                match message:
                    case messages.Greet():
                        self.work(0, self.greet(host))
                    case Call() | messages.Cancel():
                        self.take(message)
                    case messages.Begin() | messages.Stop():
                        _log.error("connection_broken", reason="an order that only the parent may give")
                        break
        except BrokenMessageError as error:
            _log.error("connection_broken", reason=str(error))
        finally:
            for task in self._tasks.values():
                task.cancel()
            self._writer.transport.abort()

    def meet(self, host: Host) -> None:
        """Take calls for `host`."""
        self._handle, self._requests = host.connect(), messages.decoder_of(host.requests)

    async def greet(self, host: Host) -> None:
        """Say what `host` is."""
        await self.send(Answer(0, host.greeting))

    def take(self, message: Call | messages.Cancel) -> None:
        """Begin to work on a call, or stop that."""
        if isinstance(message, Call):
            self.work(message.number, self._answer(message))
        elif (task := self._tasks.get(message.number)) is not None:
            task.cancel()
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def work(self, number: int, work: Coroutine[Any, Any, object]) -> None:
        """Do what a call asks for, and tell of what goes wrong."""

        async def answer() -> None:
            try:
                await work
            except ServiceError as error:
                await self.send(Failure.of(number, error))
            except Exception as error:  # noqa: BLE001 - the last handler before the parent, which must learn of it
                _log.exception("unexpected_error_in_child_process")
                unloaded = ModelLoadError(f"The model could not be loaded: {type(error).__name__}: {error}")
                failed = InferenceError("The model failed on this audio.")
                await self.send(Failure.of(number, failed if number else unloaded))
            finally:
                del self._tasks[number]

        self._tasks[number] = asyncio.get_running_loop().create_task(answer())

    async def send(self, message: Struct) -> None:
        """Send a message; whether it arrives, only a `Call` of the other's can tell."""
        self.before_sending()
        with suppress(ConnectionError):
            self._writer.write(messages.frame(message))
            await self._writer.drain()

    def tell(self, message: bytearray) -> None:
        """Send a frame, some time."""
        self._writer.write(message)

    async def drain(self) -> None:
        """Return once everything is sent."""
        with suppress(ConnectionError):
            await self._writer.drain()

    async def _answer(self, call: Call) -> None:
        if self._leaving or self._waiting:
            # What was cancelled before this call must not take its place, such as that of a live stream. Nor may this one
            # overtake another that waits: the end of a stream must not come before its last samples.
            self._waiting += 1
            try:
                async with self._order:
                    if self._leaving:
                        await asyncio.wait(set(self._leaving))
            finally:
                self._waiting -= 1
        structlog.contextvars.bind_contextvars(**call.log)

        async def reply(result: Any) -> None:
            await self.send(Answer(call.number, result))

        if call.request and self._handle is not None:
            await self._handle(call.number, messages.decoded(call.request, self._requests), reply)
        else:
            await reply(None)


class _Child:
    def __init__(self, parent: Peer, reader: asyncio.StreamReader) -> None:
        self._parent = parent
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._stack = AsyncExitStack()
        self._events: deque[Any] = deque()
        self._telling = False
        # What a call has caused is told before its answer.
        parent.before_sending = self._tell_events

    async def run(self) -> None:
        """Serve until the parent asks for the end, or is gone; then exit."""
        while (message := await messages.receive(self._reader, messages.to_child)) is not None:
            match message:
                case messages.Begin():
                    self._parent.work(0, self._begin(message))
                case Call() | messages.Cancel():
                    self._parent.take(message)
                case messages.Greet():
                    # The parent was greeted.
                    pass
                case messages.Stop():
                    # The current batch still gets its answer.
                    await self._stack.aclose()
                    self._tell_events()
                    await self._parent.drain()
                    break
        # Not the usual way out: the interpreter's end waits for threads, of which one may be at work for nobody, and
        # unloads a device that some drivers crash on.
        sys.stderr.flush()
        os._exit(0)

    async def _begin(self, begin: messages.Begin) -> None:
        path, rest = pickle.loads(begin.recipe)  # noqa: S301 - from our own parent
        # As multiprocessing does: what the parent could import, the child can.
        sys.path[:] = path
        prepare, make = pickle.loads(rest)  # noqa: S301 - likewise
        prepare()
        loading: asyncio.Future[Host] = self._loop.create_future()
        if begin.listen is not None:
            # Now, so that all who wait are greeted at one moment: that of a service whose processes are ready together.
            await self._stack.enter_async_context(await _listen(begin.listen, loading))
        host = await self._stack.enter_async_context(make(self._emit))
        self._parent.meet(host)
        loading.set_result(host)
        await self._parent.greet(host)

    def _emit(self, event: Any) -> None:
        # Together with what follows soon: to wake the loop and to write for each of them costs more than the work they tell of.
        self._events.append(event)
        if not self._telling:
            self._telling = True
            self._loop.call_soon_threadsafe(self._loop.call_later, _EVENTS_S, self._tell_events)

    def _tell_events(self) -> None:
        # First: what comes from now on is told now or by the next call.
        self._telling = False
        frames = bytearray()
        while self._events:
            frames += messages.frame(Event(self._events.popleft()))
        if frames:
            self._parent.tell(frames)


async def _listen(path: str, loading: "asyncio.Future[Host]") -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Peer(reader, writer).serve(await asyncio.shield(loading))

    # Somebody may have tidied up since.
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    # That of a process that has died.
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    # Before anybody connects: the sockets of connections inherit it.
    with_room(listener).bind(path)
    return await asyncio.start_unix_server(serve, sock=listener, limit=messages.BUFFER_BYTES)


async def _serve(connection: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=messages.BUFFER_BYTES)
    await _Child(Peer(reader, writer), reader).run()


def main() -> None:
    """Serve the parent at the other end of standard input."""
    # Control-C, and a service manager's SIGTERM, reach every process; the parent finishes what runs, then asks us to go.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # An abort in the device's driver says by itself nothing about where it was.
    faulthandler.enable(all_threads=False)
    connection = socket.socket(fileno=os.dup(0))
    # What reads standard input must not read our messages.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    # The same loop as the service's own process has.
    with asyncio.Runner(loop_factory=auto_loop_factory(use_subprocess=True)) as runner:
        runner.run(_serve(connection))


if __name__ == "__main__":
    main()
