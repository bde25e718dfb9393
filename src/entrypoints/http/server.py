"""The web application under uvicorn, as `parakeet-service serve` runs it."""

import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ...domain.errors import FaultError
from .guards.keys import is_loopback
from .openai.realtime.schemas import FRAME_BYTES

_PING_TIMEOUT_S = 600


def serve(*, host: str, port: int, has_api_keys: bool, build_app: Callable[[Callable[[], None]], FastAPI]) -> bool:
    """Serve until SIGTERM or SIGINT, and finish what runs.

    Args:
        host: Address to bind.
        port: Port to bind; 0 is any free one.
        has_api_keys: Whether callers must show a key.
        build_app: Makes the application; what it is given, it calls if it can never become ready.

    Returns:
        Whether it could serve; if not, standard error says why.
    """
    try:
        listener = listen(host, port)
    except OSError as error:
        print(f"Cannot listen on {host}, port {port}: {error.strerror or error}", file=sys.stderr)
        return False
    with listener:
        if not has_api_keys and not is_loopback(listener.getsockname()[0]):
            print(_OPEN_DOOR.format(host=host), file=sys.stderr)

        def give_up() -> None:
            server.give_up()

        try:
            app = build_app(give_up)
        except FaultError as error:
            print(error.message, file=sys.stderr)
            return False
        config = uvicorn.Config(
            app,
            # Logging is set up already, and has one line per request.
            log_config=None,
            access_log=False,
            # Of the route that takes the largest ones; the other one has its own limit. A connection that has a message
            # unread is read no further.
            ws_max_size=FRAME_BYTES,
            # A few bytes could become messages of that size. Audio does not get smaller by it.
            ws_per_message_deflate=False,
            # A client that sends faster than the model reads is made to wait, and its pongs wait with it.
            ws_ping_timeout=_PING_TIMEOUT_S,
        )
        server = _Server(config, address_of(listener))
        # A signal that the application does not keep from uvicorn is raised again at the end: it must not kill us.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _ignore)
        server.run(sockets=[listener])
        return server.started and not server.hopeless


def listen(host: str, port: int) -> socket.socket:
    """Bind the first address that `host` stands for.

    Raises:
        OSError: It cannot be bound.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server((str(address[0]), port), family=family)


def free_address(host: str, port: int) -> str:
    """The URL of a server that would bind `host` and `port` now.

    Raises:
        OSError: They cannot be bound.
    """
    with listen(host, port) as listener:
        return address_of(listener)


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
    """Says where it listens once it does."""

    hopeless = False
    """Whether the application gave up becoming ready."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    def give_up(self) -> None:
        """Stop: the application can never become ready."""
        self.hopeless = self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"Listening on {self._address}", file=sys.stderr, flush=True)
