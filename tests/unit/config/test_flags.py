import argparse
from pathlib import Path

import pytest

from parakeet_service.config.flags import add_flags, load_settings
from parakeet_service.config.lookalikes import lookalikes
from parakeet_service.config.settings import Settings, key_problems


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


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("API_KEY=abc", "API_KEYS"),
        ("BACH_SIZE=8", "BATCH_SIZE"),
        ("PORTT=8", "PORT"),
        ("PROT=8", "PORT"),
        ("MAX_STREAM=3", "MAX_STREAMS"),
        ("model_precison=int8", "MODEL_PRECISION"),
        ("export LOGLEVEL=debug", "LOG_LEVEL"),
    ],
)
def test_a_name_in_the_file_that_looks_like_ours_is_refused(
    line: str, meant: str, bare_environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bare_environment / ".env").write_text(f"BATCH_SIZE=2\n{line}\n")
    for load in (load_settings, read):
        with pytest.raises(SystemExit) as exit_:
            load()
        error = capsys.readouterr().err
        assert exit_.value.code == 2
        assert f"did you mean {meant}?" in error
        assert error.count("\n") == 1
        assert "abc" not in error


def test_other_programs_names_in_the_file_are_theirs(bare_environment: Path) -> None:
    theirs = (
        "HF_TOKEN=x\nDB_PORT=1\nDB_HOST=h\nCOMPOSE_PROJECT_NAME=c\nOTEL_SERVICE_NAME=s\nAPI_KEY=\nTZ=UTC\nMODEL=m\n"
    )
    (bare_environment / ".env").write_text(f"{theirs}BATCH_SIZE=2\n")
    assert load_settings().batch_size == 2


def test_a_file_that_is_not_utf_8_is_one_line(bare_environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bare_environment / ".env").write_bytes("ALLOWED_ORIGINS=http://bücher.example\n".encode("latin-1"))
    with pytest.raises(SystemExit) as exit_:
        load_settings()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "parakeet-service: .env: not UTF-8; save the file in that encoding\n"


def test_a_file_may_begin_with_a_byte_order_mark(bare_environment: Path) -> None:
    (bare_environment / ".env").write_bytes("BATCH_SIZE=2\n".encode("utf-8-sig"))
    assert load_settings().batch_size == 2


def test_a_long_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PORT", "x" * 10_000)
    with pytest.raises(SystemExit):
        load_settings()
    assert len(capsys.readouterr().err) < 500


def test_names_in_the_environment_that_look_like_ours_are_found() -> None:
    given = {"API_KEY": "a", "BACH_SIZE": "8", "HOSTNAME": "h", "PATH": "p", "PORT": "1", "HOME": "h", "LOGNAME": "me"}
    assert [str(one) for one in lookalikes(given)] == [
        "API_KEY is not a setting; did you mean API_KEYS?",
        "BACH_SIZE is not a setting; did you mean BATCH_SIZE?",
    ]


def test_a_key_without_a_name_does_not_get_one_that_is_taken() -> None:
    names = [name for name, _ in read("--api-keys", "key-2:AAAA,BBBB,CCCC,bob:D").named_keys]
    assert len(set(names)) == 4
    assert (names[0], names[3]) == ("key-2", "bob")


def test_keys_that_web_pages_cannot_send_are_told_of_without_the_key() -> None:
    settings = read("--api-keys", "bob:a/b=c,ann:käse,ok:plain-Key_1.~")
    problems = key_problems(settings)
    assert [problem.split()[3] for problem in problems] == ["bob", "ann"]
    assert not any("a/b" in problem or "käse" in problem for problem in problems)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(("--isolation", "process"), "ISOLATION"), (("--wyoming-socket", "w.sock"), "WYOMING_SOCKET")],
)
def test_what_windows_lacks_is_refused_there_by_name(
    arguments: tuple[str, ...], name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read(*arguments)
    monkeypatch.setattr("sys.platform", "win32")
    read()

    with pytest.raises(SystemExit):
        read(*arguments)

    error = capsys.readouterr().err
    assert name in error
    assert "does not work on Windows" in error
