import socket
from collections.abc import Callable

import pytest
from fastapi import FastAPI

from parakeet_service.domain.errors import DecoderUnavailableError
from parakeet_service.entrypoints.cli.serve import address_of, listen, serve
from parakeet_service.entrypoints.cli.service import ExitCode

from .conftest import MakeService


def test_a_taken_port_is_our_fault_in_one_line(make_service: MakeService, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert serve(make_service(port=port)) == ExitCode.FAULT

    error = capsys.readouterr().err
    assert error.startswith(f"Cannot listen on 127.0.0.1, port {port}: Address already in use")
    assert error.count("\n") == 1


def test_a_host_without_an_address_is_our_fault_in_one_line(
    make_service: MakeService, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve(make_service(host="256.0.0.1")) == ExitCode.FAULT

    error = capsys.readouterr().err
    assert error.startswith("Cannot listen on 256.0.0.1, port 0: ")
    assert error.count("\n") == 1


def test_a_part_that_is_missing_is_our_fault_in_one_line(
    make_service: MakeService, capsys: pytest.CaptureFixture[str]
) -> None:
    def build_app(_: Callable[[], None]) -> FastAPI:
        raise DecoderUnavailableError("There is no ffmpeg.")

    assert serve(make_service(build_app=build_app)) == ExitCode.FAULT
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
