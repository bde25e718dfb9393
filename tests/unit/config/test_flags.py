import argparse
from pathlib import Path

import pytest

from parakeet_service.config.flags import add_flags, load_settings
from parakeet_service.config.settings import Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


def read(*arguments: str) -> Settings:
    parser = argparse.ArgumentParser(prog="parakeet-service serve")
    settings_of = add_flags(parser)
    return settings_of(parser.parse_args(arguments))


def test_no_flags_give_the_defaults() -> None:
    assert read() == Settings()


def test_flags_beat_the_environment_and_the_environment_beats_the_file(
    monkeypatch: pytest.MonkeyPatch, bare_environment: Path
) -> None:
    (bare_environment / ".env").write_text("PORT=1\nBATCH_SIZE=1\nMAX_QUEUE=1\n")
    monkeypatch.setenv("PORT", "2")
    monkeypatch.setenv("BATCH_SIZE", "2")

    settings = read("--port", "3")

    assert (settings.port, settings.batch_size, settings.max_queue) == (3, 2, 1)


def test_flags_of_each_kind_are_understood() -> None:
    settings = read("--offline", "--model-id", "embedded", "--api-keys", "a, b", "--log-level", "debug")

    assert settings.offline
    assert settings.model_id == "embedded"
    assert [key.get_secret_value() for key in settings.api_keys] == ["a", "b"]
    assert settings.log_level == "DEBUG"


def test_wyoming_may_be_alone() -> None:
    assert read().http
    assert not read("--no-http", "--wyoming-port", "10300").http
    assert not read("--no-http", "--wyoming-socket", "w.sock").http


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--port", "99999"), "PORT: Input should be less than or equal to 65535, not '99999'"),
        (
            ("--model-precision", "int3"),
            "MODEL_PRECISION: Input should be 'bf16', 'fp32', 'int8' or 'int4', not 'int3'",
        ),
        (("--no-http",), "HTTP=false needs WYOMING_PORT or WYOMING_SOCKET: nothing would be served"),
        (("--wyoming-zeroconf",), "WYOMING_ZEROCONF needs WYOMING_PORT"),
        (("--chunk-overlap", "59"), "CHUNK_OVERLAP must be at most half of CHUNK_DURATION"),
        (
            ("--port", "x", "--batch-size", "0"),
            "BATCH_SIZE: Input should be greater than or equal to 1, not '0'; PORT: ",
        ),
    ],
)
def test_a_bad_value_ends_the_program_with_one_line_that_names_it(
    arguments: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        read(*arguments)

    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith(f"parakeet-service serve: {complaint}")
    assert error.count("\n") == 1


def test_a_bad_value_in_the_environment_ends_the_program_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAX_STREAMS", "many")

    with pytest.raises(SystemExit) as exit_:
        load_settings()

    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith("parakeet-service: MAX_STREAMS: ")
    assert error.endswith(", not 'many'\n")
    assert error.count("\n") == 1


def test_help_speaks_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--help")

    shown = capsys.readouterr().out
    assert "--api-keys A,B" in shown
    assert "tuple" not in shown
