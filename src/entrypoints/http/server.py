"""The web application under uvicorn, as `parakeet-service serve` runs it."""

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import Any, Protocol, cast

import uvicorn
from fastapi import FastAPI

from ...domain.errors import FaultError
from .guards.keys import is_loopback
from .openai.realtime.schemas import FRAME_BYTES
from .sharing import Acceptor, Share

_PING_INTERVAL_S = 20.0
"""Often enough for proxies, which cut connections that are quiet for a minute."""


class Say(Protocol):
    """Tells who starts the service a line."""

    def __call__(self, message: str, /, *, failed: bool = False) -> None:
        """Say it; `failed` if the service ends because of it."""
        ...


def serve(
    *,
    host: str,
    port: int,
    has_api_keys: bool,
    longest_idle_s: float,
    build_app: Callable[[Callable[[], None], Sequence[socket.socket]], tuple[FastAPI, Share | None]],
    say: Say,
) -> bool:
    """Serve until SIGTERM or SIGINT, and finish what runs.

    Args:
        host: Address to bind.
        port: Port to bind; 0 is any free one.
        has_api_keys: Whether callers must show a key.
        longest_idle_s: How long a WebSocket's peer may give no sign of life.
        build_app: Makes the application, and says what its share of the sockets is, if other processes serve them, too; it
            is given what to call if it can never become ready, and the sockets.
        say: Tells who starts the service a line.

    Returns:
        Whether it could serve; if not, it was said why.
    """
    try:
        listeners = listen(host, port)
    except OSError as error:
        say(f"Cannot listen on {host}, port {port}: {error.strerror or error}", failed=True)
        return False
    with ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        if not has_api_keys and not all(is_loopback(listener.getsockname()[0]) for listener in listeners):
            say(_OPEN_DOOR.format(host=host))

        def give_up() -> None:
            server.give_up()

        try:
            app, share = build_app(give_up, listeners)
        except FaultError as error:
            say(error.message, failed=True)
            return False
        server = _Server(_config(app, longest_idle_s), partial(say, f"Listening on {address_of(listeners[0])}"), share)
        # A signal that the application does not keep from uvicorn is raised again at the end: it must not kill us.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _ignore)
        server.run(sockets=listeners)
        return server.started and not server.hopeless


async def serve_beside(
    listeners: Sequence[socket.socket],
    *,
    longest_idle_s: float,
    build_app: Callable[[Callable[[], None]], tuple[FastAPI, Share | None]],
    on_started: Callable[[], None],
) -> None:
    """Serve on sockets that other processes serve on, too, until SIGTERM or SIGINT; then finish what runs.

    To be awaited in the main thread. Arguments are as in `serve`; `on_started` is called once connections are accepted.

    Raises:
        FaultError: The application cannot be made.
    """

    def give_up() -> None:
        server.give_up()

    app, share = build_app(give_up)
    server = _Server(_config(app, longest_idle_s), on_started, share)
    await server.serve(sockets=list(listeners))


def _config(app: FastAPI, longest_idle_s: float) -> uvicorn.Config:
    ping_interval_s = min(_PING_INTERVAL_S, longest_idle_s / 3)
    return uvicorn.Config(
        app,
        # Logging is set up already, and has one line per request.
        log_config=None,
        access_log=False,
        # Of the route that takes the largest ones; the other one has its own limit. A connection that has a message
        # unread is read no further.
        ws_max_size=FRAME_BYTES,
        # A few bytes could become messages of that size. Audio does not get smaller by it.
        ws_per_message_deflate=False,
        # Together as long as a live client may be idle: so long a dead one keeps its place, whatever it speaks.
        ws_ping_interval=ping_interval_s,
        ws_ping_timeout=longest_idle_s - ping_interval_s,
    )


def listen(host: str, port: int) -> list[socket.socket]:
    """Bind every address that `host` stands for, all at one port; ``::`` stands for those of IPv4, too.

    Raises:
        OSError: None can be bound, or one is taken.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))
    # A client that knows only one address knows that of IPv4.
    addresses.sort(key=lambda one: one[0] != socket.AF_INET)
    listeners = list[socket.socket]()
    with ExitStack() as undo:
        missing: OSError | None = None
        for family, address in addresses:
            try:
                listener = socket.create_server(
                    (address, listeners[0].getsockname()[1] if listeners else port),
                    family=family,
                    dualstack_ipv6=address == "::" and socket.has_dualstack_ipv6(),
                )
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                # The name has an address that the machine has not: /etc/hosts often names ::1 where there is no IPv6.
                missing = error
                continue
            listeners.append(undo.enter_context(listener))
        if not listeners and missing is not None:
            raise missing
        undo.pop_all()
    return listeners


def free_address(host: str, port: int) -> str:
    """The URL of a server that would bind `host` and `port` now.

    Raises:
        OSError: They cannot be bound.
    """
    with ExitStack() as stack:
        listeners = listen(host, port)
        for listener in listeners:
            stack.enter_context(listener)
        return address_of(listeners[0])


def address_of(listener: socket.socket) -> str:
    """The URL under which it can be reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


_OPEN_DOOR = (
    "WARNING: {host} is reachable from other machines and API_KEYS is empty: "
    "anyone who can connect may use this service."
)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


class _Server(uvicorn.Server):
    """Says so once it listens; where other processes do, too, it takes its share of connections."""

    hopeless = False
    """Whether the application gave up becoming ready."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None], share: Share | None) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._share = share

    def give_up(self) -> None:
        """Stop: the application can never become ready."""
        self.hopeless = self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._share is None:
            await super().startup(sockets)
        else:
            await super().startup([])
            self._tell(self._share)
            for listener in sockets or ():
                listener.listen(self.config.backlog)
                self.servers.append(cast("asyncio.Server", Acceptor(listener, self._protocol, self._ahead)))
        if self.started:
            self._on_started()

    async def on_tick(self, counter: int) -> bool:
        if self._share is not None:
            self._tell(self._share)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self._share is not None:
            self._share.tell(None)

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = cast("Any", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _tell(self, share: Share) -> int:
        state = self.server_state
        # One that is quiet may speak at any moment, and one with a request does.
        load = len(state.connections) + len(state.tasks)
        share.tell(load)
        return load

    def _ahead(self) -> int:
        return 0 if self._share is None else self._tell(self._share) - self._share.loads.least()
