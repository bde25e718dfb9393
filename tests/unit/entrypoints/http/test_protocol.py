import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
import uvicorn
from structlog.testing import capture_logs
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from parakeet_service.entrypoints.http.protocol import (
    AnsweringWebSocketProtocol,
    LimitedHttpProtocol,
    guard_connections,
)

LIMIT = 1 << 16
GET = b"GET / HTTP/1.1\r\nhost: x\r\n"
HANDSHAKE = (
    b"connection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
UPLOAD = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class FakeTransport(asyncio.Transport):
    """What one client sees."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.state = "open"
        self.protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.state = "half-closed"

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def is_closing(self) -> bool:
        return self.state in {"closed", "aborted"}

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    @property
    def answer(self) -> tuple[int, str]:
        """The status and the code of the error."""
        head, _, body = self.written.partition(b"\r\n\r\n")
        assert b"\r\nconnection: close" in head
        return int(head.split()[1]), json.loads(body)["error"]["code"]


class FakeLoop:
    """A clock that is turned by hand, and requests that only begin."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.requests = 0
        self._timers: list[asyncio.TimerHandle] = []

    def call_later(self, delay_s: float, call: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(self.now_s + delay_s, call, arguments, cast("asyncio.AbstractEventLoop", self))
        self._timers.append(timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._timers.remove(handle)

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def create_task(self, request: Coroutine[Any, Any, None]) -> "asyncio.Future[None]":
        self.requests += 1
        request.close()
        return asyncio.Future(loop=cast("asyncio.AbstractEventLoop", self))

    def pass_time(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while due := [timer for timer in self._timers if timer.when() <= until_s]:
            timer = min(due, key=lambda one: one.when())
            self._timers.remove(timer)
            self.now_s = timer.when()
            timer._run()
        self.now_s = until_s

    @property
    def timers(self) -> int:
        return len(self._timers)


async def never_called(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("requests only begin here")


class Connection:
    """A client's connection to a server of its own."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.transport = FakeTransport()
        self.server_state = ServerState()
        config = uvicorn.Config(never_called, log_config=None, timeout_keep_alive=5, ws=AnsweringWebSocketProtocol)
        self.protocol = LimitedHttpProtocol(
            header_timeout_s=20,
            config=config,
            server_state=self.server_state,
            app_state={},
            _loop=cast("Any", self.loop),
        )
        self.protocol.connection_made(self.transport)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.protocol.data_received(piece)

    @property
    def requests(self) -> int:
        """How many the application has heard of."""
        return self.loop.requests

    def answered(self) -> None:
        """Let the application's answer to the last request be complete."""
        self.protocol.cycle.response_complete = True
        self.protocol.on_response_complete()


def header_of(size_bytes: int) -> bytes:
    return b"a: " + b"b" * (size_bytes - len(b"a: \r\n")) + b"\r\n"


def pieces_of(data: bytes, size_bytes: int) -> list[bytes]:
    return [data[at : at + size_bytes] for at in range(0, len(data), size_bytes)]


@pytest.mark.parametrize("piece_bytes", [1000, LIMIT, 1 << 20])
def test_headers_are_taken_up_to_the_limit_however_they_come(piece_bytes: int) -> None:
    counted = len(b"/") + len(b"host: x\r\n")
    for excess, requests in ((0, 1), (1, 0)):
        client = Connection()
        client.send(*pieces_of(GET + header_of(LIMIT - counted + excess) + b"\r\n", piece_bytes))
        assert client.requests == requests
        assert client.transport.state == ("open" if requests else "half-closed")


@pytest.mark.parametrize(
    ("endless", "refusal"),
    [
        (b"a:b\r\n", (431, "headers_too_large")),
        (b"a", (431, "headers_too_large")),
    ],
)
def test_headers_without_end_are_refused(endless: bytes, refusal: tuple[int, str]) -> None:
    client = Connection()
    client.send(GET)
    with capture_logs() as lines:
        sent = 0
        while client.transport.state == "open":
            client.send(endless * 1000)
            sent += 1000 * len(endless)
    assert client.transport.answer == refusal
    assert sent <= 2 * LIMIT
    assert [(line["event"], line["status"], line["code"]) for line in lines] == [("connection refused", *refusal)]


def test_a_url_without_end_is_refused() -> None:
    client = Connection()
    client.send(b"GET /", *[b"a" * 1000] * 66)
    assert client.transport.answer == (414, "url_too_long")


def test_nothing_but_line_ends_is_refused() -> None:
    client = Connection()
    client.send(*[b"\r\n" * 1000] * 33)
    assert client.transport.answer == (431, "headers_too_large")


def test_a_refused_client_that_goes_on_sending_is_read_to_nobody_and_then_cut_off() -> None:
    client = Connection()
    client.send(GET + header_of(LIMIT) + b"\r\n")
    answer = client.transport.written
    client.send(b"\r\n\r\n", GET, b"\r\n")
    client.loop.pass_time(4.9)
    assert (client.transport.state, client.transport.written, client.requests) == ("half-closed", answer, 0)
    client.loop.pass_time(0.2)
    assert client.transport.state == "aborted"


def test_each_request_of_a_connection_may_have_as_many_headers() -> None:
    client = Connection()
    for number in range(1, 4):
        client.send(GET + header_of(LIMIT - 100) + b"\r\n")
        assert client.requests == number
        client.answered()
    assert client.transport.state == "open"


def test_a_body_has_no_part_in_it() -> None:
    client = Connection()
    client.send(UPLOAD, *[b"10000\r\n" + bytes(LIMIT) + b"\r\n"] * 10)
    # Chunks of a byte have more around them than in them.
    client.send(*[b"1\r\nx\r\n" * 1000] * 100)
    assert (client.transport.state, client.transport.written, client.requests) == ("open", b"", 1)
    client.send(b"0\r\n\r\n")
    assert not client.protocol.cycle.more_body


@pytest.mark.parametrize("endless", [b"a:b\r\n" * 1000, b"a" * 1000])
def test_trailers_without_end_are_cut_off(endless: bytes) -> None:
    client = Connection()
    client.send(UPLOAD, b"1\r\nx\r\n0\r\n", *[endless] * 70)
    # The application is at work on the request: an answer is its own.
    assert (client.transport.state, client.transport.written, client.requests) == ("aborted", b"", 1)


def test_what_is_no_http_hears_so() -> None:
    client = Connection()
    with capture_logs() as lines:
        client.send(b"\x16\x03\x01\x00\xa5\x01")
    assert client.transport.answer == (400, "invalid_http")
    assert [line["code"] for line in lines] == ["invalid_http"]


@pytest.mark.parametrize("begin", [b"GET / HT", GET, GET + b"a: b"])
def test_half_a_request_is_refused_in_time(begin: bytes) -> None:
    client = Connection()
    client.loop.pass_time(10)
    client.send(begin)
    client.loop.pass_time(9.9)
    assert client.transport.state == "open"
    with capture_logs() as lines:
        client.loop.pass_time(0.2)
    assert client.transport.answer == (408, "header_timeout")
    assert [(line["event"], line["code"], line["log_level"]) for line in lines] == [
        ("connection refused", "header_timeout", "info")
    ]


def test_headers_that_drip_gain_no_time() -> None:
    client = Connection()
    for byte in GET[:20]:
        client.send(bytes((byte,)))
        client.loop.pass_time(1.01)
    assert client.transport.answer == (408, "header_timeout")


def test_a_connection_without_a_byte_is_closed() -> None:
    client = Connection()
    with capture_logs() as lines:
        client.loop.pass_time(20.1)
    assert (client.transport.state, client.transport.written) == ("aborted", b"")
    assert [(line["event"], line["log_level"]) for line in lines] == [("connection closed", "debug")]


def test_line_ends_are_no_sign_of_life() -> None:
    client = Connection()
    for _ in range(21):
        client.send(b"\r\n")
        client.loop.pass_time(1)
    assert client.transport.state == "aborted"


def test_the_work_and_the_body_have_all_the_time_that_the_application_gives_them() -> None:
    client = Connection()
    client.send(UPLOAD)
    for _ in range(100):
        client.loop.pass_time(100)
        client.send(b"1\r\nx\r\n")
    client.send(b"0\r\n\r\n")
    client.loop.pass_time(1000)
    assert (client.transport.state, client.transport.written, client.requests) == ("open", b"", 1)


def test_each_request_of_a_connection_has_as_much_time() -> None:
    client = Connection()
    for number in range(1, 6):
        client.send(GET)
        client.loop.pass_time(15)
        client.send(b"\r\n")
        assert client.requests == number
        client.answered()
        client.loop.pass_time(4.9)
    assert client.transport.state == "open"
    client.send(GET)
    client.loop.pass_time(20.1)
    assert client.transport.answer == (408, "header_timeout")


def test_a_body_that_goes_on_after_its_answer_keeps_nothing_alive() -> None:
    client = Connection()
    client.send(UPLOAD)
    client.answered()
    with capture_logs() as lines:
        for _ in range(25):
            client.send(b"1\r\nx\r\n")
            client.loop.pass_time(1)
            if client.transport.is_closing():
                break
    assert (client.transport.state, client.transport.written) == ("aborted", b"")
    assert [(line["event"], line["log_level"]) for line in lines] == [("connection closed", "info")]


async def test_a_websocket_has_clocks_of_its_own() -> None:
    client = Connection()
    client.send(GET + HANDSHAKE + b"\r\n")
    assert client.transport.protocol is not None
    client.loop.pass_time(100)
    assert (client.transport.state, client.loop.timers) == ("open", 0)
    client.server_state.tasks.pop().cancel()


def test_a_connection_that_is_gone_leaves_no_clock_behind() -> None:
    for received in ((), (GET,), (GET + b"\r\n",), (b"\x16",)):
        client = Connection()
        client.send(*received)
        client.protocol.connection_lost(None)
        client.loop.pass_time(0)
        assert (client.requests, client.loop.timers) == (received == (GET + b"\r\n",), 0)


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        (b"cookie: " + b"a" * 8200 + b"\r\n", 431),
        (b"a: b\r\n" * 130, 431),
        (b"content-length: 5\r\n", 400),
    ],
)
async def test_a_handshake_that_websockets_refuses_is_answered_and_survives_the_shutdown(
    extra: bytes, status: int
) -> None:
    client = Connection()
    with capture_logs() as lines:
        client.send(GET + HANDSHAKE + extra + b"\r\n")
    assert int(client.transport.written.split()[1]) == status
    assert client.transport.state == "closed"
    assert [(line["event"], line["status"], line["code"]) for line in lines] == [
        ("connection refused", status, "invalid_handshake")
    ]
    (connection,) = client.server_state.connections
    answer = client.transport.written
    connection.shutdown()
    assert client.transport.written == answer


async def test_a_line_that_is_too_long_for_a_handshake_is_answered() -> None:
    client = Connection()
    client.send(b"GET /ws?" + b"q" * 8200 + b" HTTP/1.1\r\nhost: x\r\n" + HANDSHAKE + b"\r\n")
    assert client.transport.written.startswith(b"HTTP/1.1 414 ")


PONG = b"\x8a\x84" + bytes(4)  # masked with zeros
AUDIO = b"\x82\x84" + bytes(8)


def live_peer() -> tuple[Connection, AnsweringWebSocketProtocol]:
    """A WebSocket's client that has been let in; it is pinged every 20 s, and may be silent for 40 s after that."""
    client = Connection()
    client.send(GET + HANDSHAKE + b"\r\n")
    (connection,) = client.server_state.connections
    assert isinstance(connection, AnsweringWebSocketProtocol)
    connection.conn.send_response(connection.response)
    connection.handshake_complete, connection.ping_timeout = True, 40
    connection.loop = cast("asyncio.AbstractEventLoop", client.loop)
    connection.start_keepalive()
    connection.data_received(PONG + bytes(4))
    return client, connection


async def test_a_peer_that_gives_no_sign_of_life_is_cut_off() -> None:
    client, _ = live_peer()
    client.loop.pass_time(59)
    assert client.transport.state == "open"
    client.loop.pass_time(1)
    assert client.transport.state == "aborted"


async def test_a_peer_that_answers_pings_is_not_dead_however_long_it_is_silent() -> None:
    client, connection = live_peer()
    for _ in range(20):
        client.loop.pass_time(30)
        if connection.pending_ping_payload is not None:
            connection.data_received(PONG + connection.pending_ping_payload)
    assert client.transport.state == "open"


async def test_a_peer_whose_pong_waits_behind_its_audio_is_not_dead() -> None:
    client, connection = live_peer()
    connection.data_received(AUDIO)
    assert connection.read_paused
    client.loop.pass_time(600)
    assert client.transport.state == "open"
    for _ in range(20):
        # What has waited comes as soon as it is read.
        connection.data_received(AUDIO)
        connection.read_paused = False
        client.loop.pass_time(30)
    assert client.transport.state == "open"
    client.loop.pass_time(40)
    assert client.transport.state == "aborted"


async def test_a_peer_that_was_made_to_wait_is_given_its_time_again() -> None:
    client, connection = live_peer()
    connection.data_received(AUDIO)
    client.loop.pass_time(600)
    while connection.read_paused:
        await connection.receive()
    client.loop.pass_time(39)
    assert client.transport.state == "open"
    client.loop.pass_time(2)
    assert client.transport.state == "aborted"


def loaded_server(**settings: Any) -> uvicorn.Server:
    config = uvicorn.Config(never_called, log_config=None, **settings)
    config.load()
    return uvicorn.Server(config)


def test_guards_uvicorns_own_choice_of_protocols() -> None:
    server = loaded_server()
    assert server.config.http_protocol_class is HttpToolsProtocol
    with capture_logs() as lines:
        guard_connections(server, header_timeout_s=7, keepalive_timeout_s=75)
    make: Any = server.config.http_protocol_class
    made = make(config=server.config, server_state=ServerState(), app_state={}, _loop=FakeLoop())
    assert isinstance(made, LimitedHttpProtocol)
    assert server.config.ws_protocol_class is AnsweringWebSocketProtocol
    assert made.timeout_keep_alive == 75
    assert lines == []


def test_keeps_idle_connections_as_long_as_uvicorn_was_told() -> None:
    server = loaded_server(timeout_keep_alive=20)
    guard_connections(server, header_timeout_s=7, keepalive_timeout_s=75)
    assert server.config.timeout_keep_alive == 20


def test_says_that_it_does_not_guard_another_protocol() -> None:
    server = loaded_server(http="h11")
    with capture_logs() as lines:
        guard_connections(server, header_timeout_s=7, keepalive_timeout_s=75)
    assert server.config.http_protocol_class is H11Protocol
    assert [line["log_level"] for line in lines] == ["warning"]
