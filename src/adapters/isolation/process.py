"""One child process from its start to its end, and what it writes."""

import asyncio
import json
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from threading import Thread
from typing import IO

import structlog

from ...application.ports.metrics import ModelMetrics
from .calls import Calls
from .wire import BUFFER_BYTES, Request

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_LINE_BYTES = 1 << 16
_TAIL_BYTES = 1 << 12
_DYING_S = 2.0
"""Time to exit by itself once its socket is closed: it may still be writing why it fails."""


class ModelProcess:
    """A running child. Make it with `start`, and `end` it, also if it has died."""

    def __init__(self, popen: "subprocess.Popen[bytes]", calls: Calls, output: "_Output") -> None:
        self._popen = popen
        self._output = output
        self.calls = calls
        self.pid = popen.pid
        self.kill = popen.kill

    @classmethod
    async def start(cls, *, metrics: ModelMetrics, on_end: Callable[[], None]) -> "ModelProcess":
        """Start a child; see `Calls` for the arguments.

        Raises:
            OSError: It cannot be started.
        """
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.enter_context(ours)
            with theirs:
                for end in (ours, theirs):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
                # Not multiprocessing, whose `spawn` imports our main module again, and not asyncio's own subprocess:
                # see ADR 0009.
                popen = subprocess.Popen(  # noqa: ASYNC220, S603 - a millisecond; no shell
                    # `-P`: a `json.py` in the working directory is none of our business.
                    (sys.executable, "-P", "-m", f"{__package__}.child"),
                    stdin=theirs.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    # Control-C in a terminal is for the service, which finishes what runs.
                    start_new_session=True,
                )
            undo.enter_context(popen)
            undo.callback(popen.kill)
            ours.setblocking(False)  # noqa: FBT003 - its only parameter
            # The loop closes `ours` from here on, also if this is cancelled, and of a socket, unlike a pipe, Python
            # learns it: see ADR 0026.
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=BUFFER_BYTES)
            undo.pop_all()
        assert popen.stdout is not None  # noqa: S101 - for the type checkers
        return cls(popen, Calls(reader, writer, metrics=metrics, on_end=on_end), _Output(popen.stdout))

    async def end(self, *, patience_s: float) -> tuple[str, str]:
        """Ask it to exit, wait, and kill it if need be; leaves neither process nor zombie, socket, thread or task.

        Args:
            patience_s: How long it may take to finish the current batch; 0 kills it at once.

        Returns:
            How it ended, and the last that it wrote besides its log.
        """
        # A second cancellation must not stop this half-way.
        return await asyncio.shield(asyncio.create_task(self._end(patience_s)))

    async def _end(self, patience_s: float) -> tuple[str, str]:
        if patience_s:
            self.calls.tell(Request("stop"))
            await self.calls.wait_ended(within_s=patience_s)
        else:
            self.kill()
        await self.calls.aclose()
        try:
            code = await asyncio.to_thread(self._popen.wait, _DYING_S)
        except subprocess.TimeoutExpired:
            # Not SIGTERM, which it ignores: a service manager may send that to all of us, while we still need it.
            self.kill()
            code = await asyncio.to_thread(self._popen.wait)
        names = {-number: number.name for number in signal.Signals}
        return names.get(code, f"exit code {code}"), await asyncio.to_thread(self._output.rest)


class _Output:
    """Logs the child's log lines as ours, and anything else that it writes as one line of ours.

    In a thread, for the event loop takes no pipes: see ADR 0026.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._tail = b""
        self._reading = Thread(target=self._read, name="model-process-output", daemon=True)
        self._reading.start()

    def rest(self) -> str:
        """Wait for what is left after the child's end, and give the end of what was no log line."""
        # A process that the child started, and that outlived it, would hold the pipe open.
        self._reading.join(_DYING_S)
        return self._tail.decode("utf-8", "replace")

    def _read(self) -> None:
        with self._pipe:
            while line := self._pipe.readline(_LINE_BYTES):
                if line.strip():
                    self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            fields = json.loads(line)
            event, level = fields.pop("event"), logging.getLevelNamesMapping()[fields.pop("level").upper()]
        except (ValueError, TypeError, KeyError, AttributeError):
            self._tail = (self._tail + line)[-_TAIL_BYTES:]
            _log.info("model_process_wrote", line=line.decode("utf-8", "replace").rstrip("\n"))
            return
        structlog.get_logger(fields.pop("logger", __name__)).log(level, event, **fields)
