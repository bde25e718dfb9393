"""Connections go to the process that has least to do; here several acceptors of one loop stand for processes."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from structlog.testing import capture_logs

from parakeet_service.entrypoints.http.sharing import Acceptor, Loads


class Process:
    """One of several: it accepts from a descriptor of its own, counts its connections, and can pretend to have more."""

    def __init__(self, listener: socket.socket, loads: Loads, number: int, *, busy: int = 0) -> None:
        self.connections = 0
        self._busy = busy
        self._loads, self._number = loads, number
        self._tell()
        self.listener = listener.dup()
        self.acceptor = Acceptor(self.listener, self._protocol, lambda: self._tell() - loads.least())

    def _tell(self) -> int:
        load = self._busy + self.connections
        self._loads.tell(self._number, load)
        return load

    def _protocol(self) -> asyncio.Protocol:
        self.connections += 1
        return asyncio.Protocol()


@asynccontextmanager
async def connected(listener: socket.socket, count: int) -> AsyncGenerator[None]:
    writers = [(await asyncio.open_connection(*listener.getsockname()))[1] for _ in range(count)]
    yield
    for writer in writers:
        writer.close()
        await writer.wait_closed()


async def accepted(processes: list[Process], count: int) -> None:
    while sum(process.connections for process in processes) < count:
        await asyncio.sleep(0.001)


@asynccontextmanager
async def several(listener: socket.socket, place: Path, *busy: int) -> AsyncGenerator[list[Process]]:
    loads = Loads(place / "loads", len(busy))
    processes = [Process(listener, loads, number, busy=what) for number, what in enumerate(busy)]
    try:
        yield processes
    finally:
        for process in processes:
            process.acceptor.close()
            await process.acceptor.wait_closed()


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


async def test_connections_are_shared_out(tmp_path: Path) -> None:
    with listening() as listener:
        async with several(listener, tmp_path, 0, 0, 0) as processes, connected(listener, 30):
            await accepted(processes, 30)
            assert sorted(process.connections for process in processes) == [10, 10, 10]


async def test_who_has_much_to_do_leaves_connections_to_the_others(tmp_path: Path) -> None:
    with listening() as listener:
        async with several(listener, tmp_path, 8, 0) as processes, connected(listener, 8):
            await accepted(processes, 8)
            assert [process.connections for process in processes] == [0, 8]


async def test_who_has_much_to_do_takes_what_nobody_else_takes(tmp_path: Path) -> None:
    with listening() as listener:
        async with several(listener, tmp_path, 1000, 0) as processes:
            # It says that it is idle, but it hangs.
            asyncio.get_running_loop().remove_reader(processes[1].listener)
            async with connected(listener, 3):
                await accepted(processes, 3)
                assert [process.connections for process in processes] == [3, 0]


async def test_without_room_for_a_connection_it_is_taken_later() -> None:
    class Full(socket.socket):
        failures: int = 0

        def accept(self) -> tuple[socket.socket, object]:
            if not self.failures:
                self.failures += 1
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return super().accept()

    with listening() as listener, Full(fileno=os.dup(listener.fileno())) as full:
        made = asyncio.Event()

        def protocol() -> asyncio.Protocol:
            made.set()
            return asyncio.Protocol()

        with capture_logs() as logs:
            acceptor = Acceptor(full, protocol, lambda: 0)
            async with connected(listener, 1):
                await made.wait()
        acceptor.close()
        await acceptor.wait_closed()
    assert [line["event"] for line in logs] == ["cannot_accept"]


def test_one_that_does_not_serve_is_not_waited_for(tmp_path: Path) -> None:
    ours, theirs = (Loads(tmp_path / "loads", 3) for _ in range(2))
    ours.tell(0, 7)
    theirs.tell(2, 3)
    assert ours.least() == theirs.least() == 3
    ours.tell(2, None)
    assert theirs.least() == 7


async def test_a_client_that_leaves_at_once_harms_nothing(tmp_path: Path) -> None:
    with listening() as listener:
        async with several(listener, tmp_path, 0, 0) as processes:
            for _ in range(20):
                with suppress(ConnectionError), socket.create_connection(listener.getsockname()) as client:
                    # A reset.
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            async with connected(listener, 2):
                while any(process.connections < 1 for process in processes):
                    await asyncio.sleep(0.001)
