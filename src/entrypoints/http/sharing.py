"""Which of several processes with the same sockets takes a connection: the one that has least to do."""

import asyncio
import errno
import mmap
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

_log = structlog.stdlib.get_logger(__name__)

_NUMBER = struct.Struct("i")
_ABSENT = 2**31 - 1
_PAUSE_S = 0.002
"""That a process gives the others for each connection that it has more than the one that has least."""
_LONGEST_PAUSE_S = 0.04
_OUT_OF_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_WAIT_FOR_ROOM_S = 1.0


class Loads:
    """What each process has to do, in a file that all map; a process has written its number only if it serves."""

    def __init__(self, path: Path, count: int) -> None:
        """Open the file for `count` processes; the first one creates it."""
        size = count * _NUMBER.size
        with path.open("a+b") as file:
            if file.tell() < size:
                file.write(_NUMBER.pack(_ABSENT) * count)
                file.flush()
            self._memory = mmap.mmap(file.fileno(), size)

    def tell(self, process: int, load: int | None) -> None:
        """Process `process`, from 0, has so much to do; ``None``: it does not serve."""
        _NUMBER.pack_into(self._memory, process * _NUMBER.size, _ABSENT if load is None else load)

    def least(self) -> int:
        """Of all that serve; without any, more than anybody has."""
        loads: tuple[int, ...] = struct.unpack(f"{len(self._memory) // _NUMBER.size}i", self._memory)
        return min(loads)


@dataclass(frozen=True, slots=True)
class Share:
    """What one process has of sockets that several serve.

    Attributes:
        loads: What all have to do.
        number: Of this process, from 0.
    """

    loads: Loads
    number: int

    def tell(self, load: int | None) -> None:
        """This process has so much to do; ``None``: it serves no more."""
        self.loads.tell(self.number, load)


class Acceptor:
    """Takes the connections of a listening socket, as an `asyncio.Server` does, but leaves them to others that have less to do.

    The system wakes all processes; without this the first one takes all that came at one moment.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        ahead: Callable[[], int],
    ) -> None:
        """Begin to accept.

        Args:
            listener: Listens already.
            make_protocol: Makes what speaks on a connection.
            ahead: How much more this process has to do than the one that has least.
        """
        self._listener = listener
        self._make_protocol = make_protocol
        self._ahead = ahead
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listener.setblocking(False)  # noqa: FBT003 - its only parameter
        self._loop.add_reader(listener, self._somebody_comes)

    def close(self) -> None:
        """Accept no more, and close this process's listener."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._pause is not None:
            self._pause.cancel()

    async def wait_closed(self) -> None:
        """Return once every connection that was taken has its protocol."""
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _somebody_comes(self) -> None:
        pause_s = min(_PAUSE_S * self._ahead(), _LONGEST_PAUSE_S)
        if pause_s <= 0:
            self._take()
        else:
            self._take_later(pause_s)

    def _take_later(self, pause_s: float) -> None:
        # As long as nobody takes it, the socket stays readable.
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(pause_s, self._take_after_pause)

    def _take_after_pause(self) -> None:
        self._loop.add_reader(self._listener, self._somebody_comes)
        self._take()

    def _take(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            # Another process was quicker, or the client has left.
            return
        except OSError as error:
            if error.errno not in _OUT_OF_ROOM:
                raise
            _log.error("cannot_accept", reason=error.strerror)
            self._take_later(_WAIT_FOR_ROOM_S)
            return
        connection.setblocking(False)  # noqa: FBT003 - its only parameter
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, connection))
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: "asyncio.Task[object]") -> None:
        self._connecting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("connection_lost_at_once", exc_info=error)
