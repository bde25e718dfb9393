import socket
from functools import partial

import pytest

from parakeet_service.domain.errors import ModelLoadError
from parakeet_service.entrypoints.cli.doctor import Health, doctor, examine
from parakeet_service.entrypoints.cli.exit_code import ExitCode
from parakeet_service.entrypoints.http.server import free_address

from .conftest import MakeService


def broken() -> str:
    raise ModelLoadError("It is nowhere.")


def test_a_healthy_machine_is_good(make_service: MakeService, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(make_service(facts={"BLAS": lambda: "OpenBLAS"})) == ExitCode.DONE

    shown = capsys.readouterr().out
    for name in ("parakeet-service", "Python", "platform", "BLAS", "settings", "address"):
        assert f"  {name} " in shown


def test_what_keeps_the_service_from_working_is_said_and_the_rest_still_looked_at(
    make_service: MakeService, capsys: pytest.CaptureFixture[str]
) -> None:
    code = doctor(make_service(facts={"model": broken, "ffmpeg": lambda: "6.1"}))

    shown = capsys.readouterr()
    assert code == ExitCode.FAULT
    assert "✗ model              It is nowhere.\n" in shown.out
    assert "6.1" in shown.out
    assert "Problems marked ✗: 1." in shown.err


def test_settings_that_differ_are_shown(make_service: MakeService) -> None:
    findings = {finding.name: finding.value for finding in examine(make_service(changed_settings={"PORT": "9"}))}

    assert findings["PORT"] == "9"
    assert "settings" not in findings


def test_a_taken_port_is_noteworthy_and_no_more(make_service: MakeService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = make_service(free_address=partial(free_address, "127.0.0.1", taken.getsockname()[1]))
        *_, address = examine(service)

        assert address.health is Health.NOTEWORTHY
        assert doctor(service) == ExitCode.DONE
