"""Listens for Wyoming clients, beside HTTP or alone."""

import asyncio
import errno
import ipaddress
import socket
import stat
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from ...application.addresses import caller_at
from ...application.service import Service
from . import discovery
from .connection import Connection, Terms
from .errors import CannotListenError, TooManyConnectionsError
from .info import info_event

_NO_KEYS = (
    "WARNING: Wyoming has no keys: anyone who reaches {host}, port {port}, may use this service{despite}. "
    "Let only trusted machines connect."
)


class WyomingServer:
    """Its sockets are bound from the beginning; clients are served while its context is entered."""

    def __init__(
        self,
        *,
        host: str,
        port: int | None,
        socket_path: Path | None,
        terms: Terms,
        most_connections: int,
        model_id: str,
        has_api_keys: bool,
        announce_as: str | None = None,
    ) -> None:
        """Bind.

        Args:
            host: Address to bind.
            port: Port to bind; 0 is any free one, ``None`` none.
            socket_path: Unix socket to bind, if any.
            terms: What every client gets.
            most_connections: Clients at once; further ones get an error.
            model_id: The name of the model.
            has_api_keys: Whether callers of other protocols must show a key, of which this one knows nothing.
            announce_as: The name under which it is announced on the local network, if it is.

        Raises:
            CannotListenError: A socket cannot be bound, or not be announced.
        """
        if announce_as is not None:
            discovery.check_installed()
        self._terms = terms
        self._most = most_connections
        self._model_id = model_id
        self._announce_as = announce_as
        self._tcp = None if port is None else _listen(host, port)
        self._path = socket_path
        self._unix = None if socket_path is None else _listen_at(socket_path)
        if self._tcp is not None:
            _warn_of_open_door(self._tcp, has_api_keys=has_api_keys)

    @asynccontextmanager
    async def __call__(self, service: Service) -> AsyncGenerator[None]:
        """Serve while in this context; clients that are still connected at its end are disconnected."""
        clients = _Clients(service, self._terms, self._most, self._model_id)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(clients.disconnect)
            if self._unix is not None:
                assert self._path is not None  # noqa: S101
                stack.callback(self._path.unlink, missing_ok=True)
                server = await asyncio.start_unix_server(clients.connect, sock=self._unix)
                stack.callback(server.close)
                _say(f"unix://{self._path}")
            if self._tcp is not None:
                host, port = self._tcp.getsockname()[:2]
                server = await asyncio.start_server(clients.connect, sock=self._tcp)
                stack.callback(server.close)
                _say(f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}")
                if self._announce_as is not None:
                    await stack.enter_async_context(discovery.announced(host, port, self._announce_as))
            yield


class _Clients:
    """Everybody who is connected."""

    def __init__(self, service: Service, terms: Terms, most: int, model_id: str) -> None:
        self._service = service
        self._terms = terms
        self._most = most
        finds_end = terms.silence_s is not None
        self._info = partial(info_event, service.model, model_id, finds_end=finds_end)
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one more."""
        # Of a Unix socket it is an empty text.
        peer: tuple[str, int] | str | None = writer.get_extra_info("peername")
        caller = caller_at(peer[0] if isinstance(peer, tuple) else None)
        connection = Connection(self._service, self._terms, reader, writer, caller=caller, info=self._info)
        if len(self._tasks) < self._most:
            serving = connection.serve()
        else:
            error = TooManyConnectionsError(f"Too many connections: {self._most} clients are connected.")
            serving = connection.turn_away(error)
        task = asyncio.create_task(serving)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def disconnect(self) -> None:
        """Let nobody stay."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server((str(address[0]), port), family=family)
    except OSError as error:
        message = f"Cannot listen on WYOMING_HOST {host}, WYOMING_PORT {port}: {error.strerror or error}"
        raise CannotListenError(message) from error


def _listen_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        try:
            listener.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_left_over(path):
                raise
            path.unlink()
            listener.bind(str(path))
        listener.listen()
    except OSError as error:
        listener.close()
        raise CannotListenError(f"Cannot listen on WYOMING_SOCKET {path}: {error.strerror or error}") from error
    return listener


def _is_left_over(path: Path) -> bool:
    """Whether it is the socket of a server that was killed."""
    if not stat.S_ISSOCK(path.stat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == errno.ECONNREFUSED


def _warn_of_open_door(listener: socket.socket, *, has_api_keys: bool) -> None:
    host, port = listener.getsockname()[:2]
    if not ipaddress.ip_address(host).is_loopback:
        despite = ", although API_KEYS is set" if has_api_keys else ""
        print(_NO_KEYS.format(host=host, port=port, despite=despite), file=sys.stderr, flush=True)


def _say(address: str) -> None:
    print(f"Wyoming: listening on {address}", file=sys.stderr, flush=True)
