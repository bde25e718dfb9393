"""One child process from its start to its end, and what it writes to its standard error."""

import asyncio
import json
import logging
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import structlog

from ...application.ports.speech_model import SpeechModel
from .calls import Calls
from .wire import BUFFER_BYTES, frame

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_CHILD = f"{__package__}.child"
_LINE_BYTES = 1 << 16
_TAIL_BYTES = 1 << 12
_DYING_S = 2.0
"""What a child gets to go by itself once its socket is closed: it may still be writing down why it fails."""
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class ModelProcess:
    """A running child. Make it with `start`, and `end` it, also if it has died."""

    def __init__(self, popen: "subprocess.Popen[bytes]", calls: Calls, log: "_ChildLog") -> None:
        self._popen = popen
        self._log = log
        self.calls = calls

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @classmethod
    async def start(cls, make: Callable[[], SpeechModel], *, on_end: Callable[[], None]) -> "ModelProcess":
        """Start a child that will make the model; it answers once Python is up.

        Raises:
            OSError: It cannot be started.
        """
        introduction = {"path": sys.path, "level": logging.getLogger(__name__).getEffectiveLevel()}
        first = frame(introduction, pickle.dumps(make))
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.enter_context(ours)
            with theirs:
                for end in (ours, theirs):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
                output, their_output = socket.socketpair()
                undo.enter_context(output)
                with their_output:
                    popen = _spawn(theirs, their_output)
            undo.callback(popen.wait)
            undo.callback(popen.kill)
            for end in (ours, output):
                end.setblocking(False)  # noqa: FBT003 - its only parameter
            # The loop closes `ours` from here on, also if this is cancelled, and of a socket, unlike a pipe, Python
            # learns it.
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=BUFFER_BYTES)
            undo.pop_all()
        writer.write(first)
        return cls(popen, Calls(reader, writer, on_end), _ChildLog(output))

    async def end(self, *, patience_s: float) -> "Ending":
        """Ask it to go, wait, and make it go; leaves neither process nor zombie, socket or task.

        Args:
            patience_s: How long it may finish what it is at; 0 kills it at once.
        """
        # A second cancellation must not stop this half-way.
        return await asyncio.shield(asyncio.create_task(self._end(patience_s)))

    async def _end(self, patience_s: float) -> "Ending":
        if patience_s:
            self.calls.stop()
            await self.calls.wait_ended(within_s=patience_s)
        else:
            self._popen.kill()
        await self.calls.aclose()
        try:
            await asyncio.to_thread(self._popen.wait, _DYING_S)
        except subprocess.TimeoutExpired:
            # Not SIGTERM, which it ignores: a service manager may send that to all of us, while we still need it.
            self._popen.kill()
            await asyncio.to_thread(self._popen.wait)
        return Ending(self._popen.returncode, await self._log.rest())


def _spawn(connection: socket.socket, output: socket.socket) -> "subprocess.Popen[bytes]":
    # Not multiprocessing, whose `spawn` imports our main module again, and not asyncio's own subprocess: see ADR 0009.
    return subprocess.Popen(  # noqa: S603 - no shell
        # `-P`: a `json.py` in the working directory is none of our business.
        (sys.executable, "-P", "-m", _CHILD),
        stdin=connection.fileno(),
        stdout=output.fileno(),
        stderr=subprocess.STDOUT,
        # Control-C in a terminal is for the service, which finishes what runs.
        start_new_session=True,
    )


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended, and the last that it wrote besides its log."""

    returncode: int
    last_words: str

    def __str__(self) -> str:
        if self.returncode >= 0:
            return f"exit code {self.returncode}"
        try:
            return signal.Signals(-self.returncode).name
        except ValueError:
            return f"signal {-self.returncode}"


class _ChildLog:
    """Logs the child's log lines as ours, and anything else that it writes as one line of ours."""

    def __init__(self, output: socket.socket) -> None:
        """Begin to read.

        Args:
            output: Our end of a socket pair that only we close, not a pipe connected to the event loop: uvloop closes
                the descriptor of a pipe twice, and the second time it can be another client's connection.
        """
        self._output = output
        self._tail = b""
        self._reading = asyncio.create_task(self._read())

    async def rest(self) -> str:
        """Read what is left after the child's end, and give the end of what was no log line."""
        # A process that the child started, and that outlived it, would hold the socket open.
        await asyncio.wait((self._reading,), timeout=_DYING_S)
        self._reading.cancel()
        await asyncio.wait((self._reading,))
        self._output.close()
        return self._tail.decode("utf-8", "replace")

    async def _read(self) -> None:
        loop, line = asyncio.get_running_loop(), b""
        while data := await loop.sock_recv(self._output, _LINE_BYTES):
            *lines, line = (line + data).split(b"\n")
            for whole in lines:
                self._take(whole)
            if len(line) > _LINE_BYTES:
                self._take(line)
                line = b""
        self._take(line)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            fields = json.loads(line)
            event, level = fields.pop("event"), _LEVELS[fields.pop("level")]
        except (ValueError, TypeError, KeyError, AttributeError):
            self._tail = (self._tail + line + b"\n")[-_TAIL_BYTES:]
            _log.info("model_process_wrote", line=line.decode("utf-8", "replace"))
            return
        structlog.get_logger(fields.pop("logger", __name__)).log(level, event, **fields)
