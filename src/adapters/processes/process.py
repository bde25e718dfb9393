"""One child process from its start to its end, and the calls to it."""

import asyncio
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from msgspec import Raw

from . import messages
from .child import MakeHost
from .connection import Connection, ProcessEndedError
from .messages import Call, nothing, with_room

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a child is to be.

    Attributes:
        make: Makes, in the child, what answers the calls; must be picklable.
        prepare: Called before it, such as to configure the log; must be picklable.
        ping_every_s: How often the child is asked for a sign of life. If that takes three times as long, it hangs, and
            is killed.
        listen: A path at which the child, once it has loaded, answers other processes, too; see `Connection.open`.
        keep: Descriptors of ours that the child has, under the same numbers.
    """

    make: MakeHost
    prepare: Callable[[], None] = nothing
    ping_every_s: float = 20.0
    listen: str | None = None
    keep: Sequence[int] = ()


class ChildProcess(Connection):
    """A running child. Make it with `start`, and `end` it, also if it has died."""

    pid: int

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        super().__init__(pid=popen.pid)
        self._popen = popen

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
        ours, theirs = map(with_room, socket.socketpair())
        with theirs:
            theirs.setblocking(True)  # noqa: FBT003 - its only parameter
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
                    pass_fds=recipe.keep,
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
        await self._attach(ours, on_event, on_end)
        pickled = pickle.dumps((sys.path, pickle.dumps((recipe.prepare, recipe.make))))
        self.greeting = await self._answer(0, messages.Begin(pickled, recipe.listen))
        self._tasks.append(asyncio.create_task(self._watch(recipe.ping_every_s)))

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
            # In its thread this goes on, even if we are cancelled, once it has begun; shielded, it begins.
            exiting = asyncio.get_running_loop().run_in_executor(None, self._popen.wait)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        code = await asyncio.shield(exiting)
        names = {-number: number.name for number in signal.Signals}
        return names.get(code, f"exit code {code}")

    def _break(self) -> None:
        self._popen.kill()

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
