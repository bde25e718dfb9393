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
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog
from msgspec import Struct

from ...domain.errors import InferenceError, ModelLoadError, ServiceError
from . import messages
from .messages import Answer, Call, Event, Failure

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Reply: TypeAlias = Callable[[Any], Awaitable[None]]
"""Sends the answer to a call."""


@dataclass(frozen=True, slots=True)
class Host:
    """What does the work in the child.

    Attributes:
        requests: The type of its requests.
        greeting: A description of it for the parent.
        handle: Takes a call's number and request, and replies once. It is cancelled when the parent cancels the call,
            which may be after the reply.
    """

    requests: Any
    greeting: Any
    handle: Callable[[int, Any, Reply], Awaitable[None]]


MakeHost: TypeAlias = Callable[[Callable[[Any], None]], AbstractAsyncContextManager[Host]]
"""Loads a host, and finishes what runs when it is left. It is given what tells the parent of events, from any thread."""


class _Child:
    _host: Host  # once it was made

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        # Who has drained it may exit.
        writer.transport.set_write_buffer_limits(0)
        self._loop = asyncio.get_running_loop()
        self._stack = AsyncExitStack()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the parent asks for the end, or is gone; then exit."""
        while (message := await messages.receive(self._reader, messages.to_child)) is not None:
            match message:
                case messages.Begin(recipe=recipe):
                    self._work(0, self._begin(recipe))
                case Call(number=number):
                    self._work(number, self._handle(message))
                case messages.Cancel(number=number):
                    if (task := self._tasks.get(number)) is not None:
                        task.cancel()
                        self._leaving.add(task)
                        task.add_done_callback(self._leaving.discard)
                case messages.Stop():
                    # The current batch still gets its answer.
                    await self._stack.aclose()
                    await self._writer.drain()
                    break
        # Not the usual way out: the interpreter's end waits for threads, of which one may be at work for nobody, and
        # unloads a device that some drivers crash on.
        sys.stderr.flush()
        os._exit(0)

    def _work(self, number: int, work: Coroutine[Any, Any, object]) -> None:
        async def answer() -> None:
            try:
                await work
            except ServiceError as error:
                await self._send(Failure.of(number, error))
            except Exception as error:  # noqa: BLE001 - the last handler before the parent, which must learn of it
                _log.exception("unexpected_error_in_child_process")
                unloaded = ModelLoadError(f"The model could not be loaded: {type(error).__name__}: {error}")
                failed = InferenceError("The model failed on this audio.")
                await self._send(Failure.of(number, failed if number else unloaded))
            finally:
                del self._tasks[number]

        self._tasks[number] = self._loop.create_task(answer())

    async def _begin(self, recipe: bytes) -> None:
        path, rest = pickle.loads(recipe)  # noqa: S301 - from our own parent
        # As multiprocessing does: what the parent could import, the child can.
        sys.path[:] = path
        prepare, make = pickle.loads(rest)  # noqa: S301 - likewise
        prepare()
        self._host = await self._stack.enter_async_context(make(self._emit))
        self._requests = messages.decoder_of(self._host.requests)
        await self._send(Answer(0, self._host.greeting))

    async def _handle(self, call: Call) -> None:
        if self._leaving:
            # What was cancelled before this call must not take its place, such as that of a live stream.
            await asyncio.wait(set(self._leaving))
        structlog.contextvars.bind_contextvars(**call.log)

        async def reply(result: Any) -> None:
            await self._send(Answer(call.number, result))

        if call.request:
            await self._host.handle(call.number, messages.decoded(call.request, self._requests), reply)
        else:
            await reply(None)

    async def _send(self, message: Struct) -> None:
        self._writer.write(messages.frame(message))
        await self._writer.drain()

    def _emit(self, event: Any) -> None:
        self._loop.call_soon_threadsafe(self._writer.write, messages.frame(Event(event)))


async def _serve(connection: socket.socket) -> None:
    await _Child(*await asyncio.open_unix_connection(sock=connection, limit=messages.BUFFER_BYTES)).run()


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
    asyncio.run(_serve(connection))


if __name__ == "__main__":
    main()
