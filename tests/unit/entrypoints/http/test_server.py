import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import pytest
from fastapi import FastAPI

from parakeet_service.domain.errors import DecoderUnavailableError
from parakeet_service.entrypoints.http.server import address_of, free_address, listen, serve


def no_app(_: Callable[[], None], _listeners: Sequence[socket.socket]) -> tuple[FastAPI, None]:
    raise DecoderUnavailableError("There is no ffmpeg.")


class Said(list[str]):
    def serve(self, *, host: str, port: int) -> bool:
        return serve(host=host, port=port, has_api_keys=False, longest_idle_s=60, build_app=no_app, say=self.say)

    def say(self, message: str, *, failed: bool = False) -> None:
        # A warning about an open door ends nothing.
        assert failed is not message.startswith("WARNING: ")
        self.append(message)


def test_a_taken_port_is_our_fault_in_one_line() -> None:
    said = Said()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not said.serve(host="127.0.0.1", port=port)

    (error,) = said
    assert error.startswith(f"Cannot listen on 127.0.0.1, port {port}: Address already in use")


def test_a_host_without_an_address_is_our_fault_in_one_line() -> None:
    said = Said()
    assert not said.serve(host="256.0.0.1", port=0)

    (error,) = said
    assert error.startswith("Cannot listen on 256.0.0.1, port 0: ")


def test_a_part_that_is_missing_is_our_fault_in_one_line() -> None:
    said = Said()
    assert not said.serve(host="127.0.0.1", port=0)
    assert said == ["There is no ffmpeg."]


def test_an_open_door_is_said() -> None:
    said = Said()
    assert not said.serve(host="0.0.0.0", port=0)  # noqa: S104
    assert said[0].startswith("WARNING: 0.0.0.0 is reachable from other machines and API_KEYS is empty")


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_port_0_becomes_one_that_can_be_told(host: str, url: str) -> None:
    try:
        (listener,) = listen(host, 0)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with listener:
        assert address_of(listener) == f"{url}{listener.getsockname()[1]}"
        assert not address_of(listener).endswith(":0")
    assert free_address(host, 0).startswith(url)


@pytest.mark.parametrize("host", ["localhost", "::"])
def test_a_host_of_both_families_is_bound_for_both(host: str) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with ExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in listen(host, 0)]
        both = len({listener.family for listener in listeners}) == 2
        dual = not listeners[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) if host == "::" else False
        assert both or dual or len(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)) == 1
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
