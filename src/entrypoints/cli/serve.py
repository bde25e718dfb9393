"""``parakeet-service serve``: the web application under uvicorn."""

import signal
import socket
import sys
from types import FrameType

import uvicorn

from ...domain.errors import FaultError
from ..http.guards.keys import is_loopback
from ..http.openai.realtime.schemas import FRAME_BYTES
from .service import ExitCode, Service

_PING_TIMEOUT_S = 600


def serve(service: Service) -> ExitCode:
    """Serve until SIGTERM or SIGINT, finish what runs, and exit with 0; with 1 if the model cannot be loaded."""
    try:
        listener = listen(service.host, service.port)
    except OSError as error:
        print(f"Cannot listen on {service.host}, port {service.port}: {error.strerror or error}", file=sys.stderr)
        return ExitCode.FAULT
    with listener:
        if not service.has_api_keys and not is_loopback(listener.getsockname()[0]):
            print(_OPEN_DOOR.format(host=service.host), file=sys.stderr)

        def give_up() -> None:
            server.give_up()

        try:
            app = service.build_app(give_up)
        except FaultError as error:
            print(error.message, file=sys.stderr)
            return ExitCode.FAULT
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
        return ExitCode.DONE if server.started and not server.hopeless else ExitCode.FAULT


def listen(host: str, port: int) -> socket.socket:
    """Bind the first address that `host` stands for.

    Raises:
        OSError: It cannot be bound.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server((str(address[0]), port), family=family)


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
