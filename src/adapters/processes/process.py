"""One child process from its start to its end, and the calls to it."""

import asyncio
import itertools
import pickle
import signal
import socket
import subprocess
import sys
from asyncio import CancelledError, Future, StreamWriter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from msgspec import Raw, Struct
from msgspec.msgpack import Decoder

from . import messages
from .child import MakeHost
from .messages import Answer, BrokenMessageError, Call, Cancel, Failure

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

Result = TypeVar("Result")


class ProcessEndedError(Exception):
    """The child is gone, and with it the answer; or it could not even be started."""


def nothing(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a child is to be.

    Attributes:
        make: Makes, in the child, what answers the calls; must be picklable.
        prepare: Called before it, such as to configure the log; must be picklable.
        ping_every_s: How often the child is asked for a sign of life. If that takes three times as long, it hangs, and
            is killed.
    """

    make: MakeHost
    prepare: Callable[[], None] = nothing
    ping_every_s: float = 20.0


class ChildProcess:
    """A running child. Make it with `start`, and `end` it, also if it has died."""

    _writer: StreamWriter
    greeting: Raw
    """What it said when it had loaded."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Raw]] = {}
        self._turn = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.ended = asyncio.Event()  # set once it is gone
        self.answers = 0  # that came
        self.pid = popen.pid

    @classmethod
    async def start(
        cls, recipe: Recipe, *, on_event: Callable[[Raw], None] = nothing, on_end: Callable[[], None] = nothing
    ) -> "ChildProcess":
        """Start a child, and wait until it has loaded; if that fails or is cancelled, nothing is left behind.

        `on_event` is called for what it tells unasked; `on_end` once it is gone, before any caller learns of that.

        Raises:
            ServiceError: As the child raised it.
            ProcessEndedError: It could not be started, or died meanwhile; the message says how.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, messages.BUFFER_BYTES)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, messages.BUFFER_BYTES)
            ours.setblocking(False)  # noqa: FBT003 - its only parameter
            try:
                # Not multiprocessing, whose `spawn` imports our main module again, and not asyncio's own subprocess:
                # see ADR 0009.
                popen = subprocess.Popen(  # noqa: ASYNC220, S603 - a millisecond; no shell
                    # `-P`: a `json.py` in the working directory is none of our business.
                    (sys.executable, "-P", "-m", f"{__package__}.child"),
                    stdin=theirs.fileno(),
                    # What it writes goes where our log goes; standard output is for what a command prints.
                    stdout=2,
                    # Control-C in a terminal is for the service, which finishes what runs.
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise ProcessEndedError(str(error)) from error
        child = cls(popen)
        try:
            await child._begin(recipe, ours, on_event, on_end)
        except ProcessEndedError as error:
            raise ProcessEndedError(f"it died while it was loading: {await child.end(patience_s=0)}") from error
        except BaseException:
            await child.end(patience_s=0)
            raise
        return child

    async def _begin(
        self, recipe: Recipe, ours: socket.socket, on_event: Callable[[Raw], None], on_end: Callable[[], None]
    ) -> None:
        # The loop closes `ours` from here on, also if this is cancelled, and of a socket, unlike a pipe, Python learns it:
        # see ADR 0026.
        reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=messages.BUFFER_BYTES)
        self._tasks.append(asyncio.create_task(self._listen(reader, on_event, on_end)))
        pickled = pickle.dumps((sys.path, pickle.dumps((recipe.prepare, recipe.make))))
        self.greeting = await self._answer(0, messages.Begin(pickled))
        self._tasks.append(asyncio.create_task(self._watch(recipe.ping_every_s)))

    async def call(self, request: Any, results: Decoder[Result]) -> Result:
        """Ask, and wait for the answer; on cancellation the child stops working on it.

        Raises:
            ProcessEndedError: The child ended before it answered.
            ServiceError: As the child raised it.
        """
        result = await self._call(next(self._numbers), request)
        try:
            return messages.decoded(result, results)
        except BrokenMessageError as error:
            self._popen.kill()
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
        """End it, and say how it ended; leaves neither process nor zombie, socket or task.

        It is asked to, and has `patience_s` to finish what runs; then, or at once where that is 0, it is killed.
        """
        try:
            if patience_s and not self.ended.is_set():
                self._tell(messages.Stop())
                await asyncio.wait(self._tasks[:1], timeout=patience_s)
        finally:
            # One that is exiting keeps its exit code. Not SIGTERM, which it ignores: a service manager may send that to all
            # of us, while we still need it.
            self._popen.kill()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                self._writer.transport.abort()
            # In its thread this goes on, even if we are cancelled.
            exiting = asyncio.get_running_loop().run_in_executor(None, self._popen.wait)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        code = await exiting
        names = {-number: number.name for number in signal.Signals}
        return names.get(code, f"exit code {code}")

    async def _call(self, number: int, request: Any) -> Raw:
        # The child's log lines name the request, as our own do.
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

    async def _watch(self, every_s: float) -> None:
        with suppress(ProcessEndedError):
            while True:
                await asyncio.sleep(every_s)
                number = next(self._numbers)
                try:
                    async with asyncio.timeout(3 * every_s):
                        await self._answer(number, Call(number))
                except TimeoutError:
                    _log.error("child_process_hangs", pid=self.pid)
                    self._popen.kill()
                    return
