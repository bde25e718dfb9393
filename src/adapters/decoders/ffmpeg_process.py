"""A running ffmpeg: what goes in, what comes out, and its end."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, BufferedWriter, IOBase
from typing import Protocol, TypeVar, cast

_Result = TypeVar("_Result")

_MOST_MEMORY_BYTES = 384 << 20
"""What one ffmpeg may use; hours of m4a and 192 kHz on eight channels take 80 MB. `-max_alloc` bounds each block alone."""
# The environment may hold keys, which a decoder has no need of, and FFREPORT would make it write files. Windows starts
# nothing without SYSTEMROOT.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP")


class FfmpegProcess(Protocol):
    """What a decoder does with ffmpeg. Each of its three streams has one user at a time."""

    async def send(self, piece: bytes) -> None:
        """Write to its standard input.

        Raises:
            BrokenPipeError: It reads no more, like ConnectionResetError.
        """
        ...

    async def close_input(self) -> None:
        """Let it see the end of its standard input."""
        ...

    async def receive(self, limit_bytes: int) -> bytes:
        """Read from its standard output; nothing at its end."""
        ...

    async def receive_report(self, limit_bytes: int) -> bytes:
        """Read from its standard error; nothing at its end."""
        ...

    async def wait(self) -> int:
        """How it ended."""
        ...

    async def end(self) -> None:
        """Kill it if it still runs, and leave nothing of it; nobody may be waiting for any of the above."""
        ...


def start_ffmpeg(command: Sequence[str]) -> FfmpegProcess:
    """Start ffmpeg in the way of this system.

    Raises:
        OSError: It cannot be started.
    """
    return PipedProcess.start(command) if sys.platform == "win32" else SocketProcess.start(command)


@dataclass(frozen=True, slots=True)
class SocketProcess:
    """An ffmpeg whose standard streams are sockets, which the event loop serves.

    Not asyncio's own subprocess: uvloop starts those with ``fork``, before which OpenBLAS ends its threads, also in
    the middle of a multiplication that then waits for them for ever. `subprocess.Popen` uses ``vfork``, which runs no
    such handlers.

    Sockets that only we close, not pipes connected to the event loop: uvloop closes the descriptor of a pipe and then
    has its file object close the same number, or leaves that to the garbage collector if connecting is cancelled. By
    then the number can be another client's connection.
    """

    popen: subprocess.Popen[bytes]
    stdin: socket.socket
    stdout: socket.socket
    stderr: socket.socket

    @classmethod
    def start(cls, command: Sequence[str]) -> "SocketProcess":
        """See `start_ffmpeg`."""
        with ExitStack() as undo, ExitStack() as handed_over:
            ours, theirs = list[socket.socket](), list[socket.socket]()
            for _ in range(3):
                our_end, their_end = socket.socketpair()
                ours.append(undo.enter_context(our_end))
                theirs.append(handed_over.enter_context(their_end))
                our_end.setblocking(False)  # noqa: FBT003 - its only parameter
            stdin, stdout, stderr = theirs
            popen = subprocess.Popen(  # noqa: S603 - what is started here is ours to end
                command,
                stdin=stdin.fileno(),
                stdout=stdout.fileno(),
                stderr=stderr.fileno(),
                env=_environment(),
                # Control-C in a terminal is for the service, which finishes what runs.
                start_new_session=True,
            )
            if sys.platform == "linux":
                # It has read nothing yet. Elsewhere, nobody can limit another process.
                import resource  # noqa: PLC0415 - Windows has none

                with suppress(ProcessLookupError):
                    resource.prlimit(popen.pid, resource.RLIMIT_DATA, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
            undo.pop_all()
        return cls(popen, *ours)

    async def send(self, piece: bytes) -> None:
        """See `FfmpegProcess`."""
        await asyncio.get_running_loop().sock_sendall(self.stdin, piece)

    async def close_input(self) -> None:
        """See `FfmpegProcess`."""
        self.stdin.close()

    async def receive(self, limit_bytes: int) -> bytes:
        """See `FfmpegProcess`."""
        return await asyncio.get_running_loop().sock_recv(self.stdout, limit_bytes)

    async def receive_report(self, limit_bytes: int) -> bytes:
        """See `FfmpegProcess`."""
        return await asyncio.get_running_loop().sock_recv(self.stderr, limit_bytes)

    async def wait(self) -> int:
        """See `FfmpegProcess`."""
        return await asyncio.to_thread(self.popen.wait)

    async def end(self) -> None:
        """See `FfmpegProcess`; leaves neither socket nor zombie."""
        # It leads a session of its own: what a wrapper has started goes with it.
        if self.popen.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()
        await self.wait()


class PipedProcess:
    """An ffmpeg whose standard streams are pipes, each served by a thread: Windows hands no sockets to a process."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        """Take over a process whose streams are pipes."""
        self._popen = popen
        # Each is closed once its thread is out of it.
        self._stdin = cast("BufferedWriter", popen.stdin)
        self._stdout, self._stderr = cast("BufferedReader", popen.stdout), cast("BufferedReader", popen.stderr)
        # Not those that all share: as many processes could fill them, each waiting for another's input.
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="ffmpeg")

    @classmethod
    def start(cls, command: Sequence[str]) -> "PipedProcess":
        """See `start_ffmpeg`."""
        return cls(
            subprocess.Popen(  # noqa: S603 - what is started here is ours to end
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                # Control-C in a terminal is for the service, which finishes what runs.
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        )

    async def send(self, piece: bytes) -> None:
        """See `FfmpegProcess`."""
        await self._in_thread(partial(self._write, piece))

    async def close_input(self) -> None:
        """See `FfmpegProcess`."""
        await self._in_thread(partial(_close, self._stdin))

    async def receive(self, limit_bytes: int) -> bytes:
        """See `FfmpegProcess`."""
        return await self._in_thread(partial(self._stdout.read1, limit_bytes))

    async def receive_report(self, limit_bytes: int) -> bytes:
        """See `FfmpegProcess`."""
        return await self._in_thread(partial(self._stderr.read1, limit_bytes))

    async def wait(self) -> int:
        """See `FfmpegProcess`."""
        return await self._in_thread(self._popen.wait)

    async def end(self) -> None:
        """See `FfmpegProcess`; leaves neither pipe nor thread."""
        # Whoever was cancelled has left a thread that waits for ffmpeg.
        self._popen.kill()
        await self.wait()
        for stream in (self._stdin, self._stdout, self._stderr):
            await self._in_thread(partial(_close, stream))
        self._threads.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _write(self, piece: bytes) -> None:
        try:
            self._stdin.write(piece)
            self._stdin.flush()
        except (OSError, ValueError) as error:  # Windows has other numbers for a broken pipe; ValueError: it is closed
            raise BrokenPipeError from error


def _close(stream: IOBase) -> None:
    # Who closes also writes what is left, which nobody reads any more.
    with suppress(OSError):
        stream.close()


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
