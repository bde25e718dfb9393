import socket
from collections.abc import Callable

import pytest
from fastapi import FastAPI

from parakeet_service.domain.errors import DecoderUnavailableError
from parakeet_service.entrypoints.http.server import address_of, free_address, listen, serve


def no_app(_: Callable[[], None]) -> FastAPI:
    raise DecoderUnavailableError("There is no ffmpeg.")


def test_a_taken_port_is_our_fault_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert not serve(host="127.0.0.1", port=port, has_api_keys=False, build_app=no_app)

    error = capsys.readouterr().err
    assert error.startswith(f"Cannot listen on 127.0.0.1, port {port}: Address already in use")
    assert error.count("\n") == 1


def test_a_host_without_an_address_is_our_fault_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert not serve(host="256.0.0.1", port=0, has_api_keys=False, build_app=no_app)

    error = capsys.readouterr().err
    assert error.startswith("Cannot listen on 256.0.0.1, port 0: ")
    assert error.count("\n") == 1


def test_a_part_that_is_missing_is_our_fault_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert not serve(host="127.0.0.1", port=0, has_api_keys=False, build_app=no_app)
    assert capsys.readouterr().err == "There is no ffmpeg.\n"


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_port_0_becomes_one_that_can_be_told(host: str, url: str) -> None:
    try:
        listener = listen(host, 0)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with listener:
        assert address_of(listener) == f"{url}{listener.getsockname()[1]}"
        assert not address_of(listener).endswith(":0")
    assert free_address(host, 0).startswith(url)
