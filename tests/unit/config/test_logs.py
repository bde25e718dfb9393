import io
import json
import logging
import os
from collections.abc import Iterator
from types import ModuleType

import pytest
import structlog
import uvicorn.server
import websockets.server
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.websockets import websockets_sansio_impl

from parakeet_service.config.logs import LogFormat, announce, configure_logging

UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    loggers = {name: logging.getLogger(name) for name in (*UVICORN, "parakeet_service")}
    before = {name: (logger.handlers[:], logger.propagate, logger.level) for name, logger in loggers.items()}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, logger in loggers.items():
        logger.handlers[:], logger.propagate, level = before[name]
        logger.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("", True), ("1", False)])
def test_colours_only_where_they_are_wanted(
    no_color: str | None,
    coloured: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    configure_logging(level="INFO", log_format="auto")
    structlog.stdlib.get_logger("parakeet_service.here").info("ready")
    assert ("\x1b[" in terminal.getvalue()) is coloured


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_an_announcement_is_no_plain_text_among_json_and_is_made_at_every_level(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(level="ERROR", log_format=log_format)
    announce("Listening on http://127.0.0.1:1", log_format=log_format)
    announce("Cannot listen.", log_format=log_format, failed=True)
    assert [(line["event"], line["level"]) for line in lines(capsys)] == [
        ("Listening on http://127.0.0.1:1", "info"),
        ("Cannot listen.", "error"),
    ]


def test_an_announcement_to_people_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="ERROR", log_format="console")
    announce("Listening on http://127.0.0.1:1", log_format="console")
    assert capsys.readouterr().err == "Listening on http://127.0.0.1:1\n"


def test_writes_one_json_object_a_line_with_what_the_request_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="INFO", log_format="json")
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.stdlib.get_logger("parakeet_service.here").info("request", status=200)
    (line,) = lines(capsys)
    assert {name: line[name] for name in ("event", "status", "request_id", "level", "logger")} == {
        "event": "request",
        "status": 200,
        "request_id": "r1",
        "level": "info",
        "logger": "parakeet_service.here",
    }
    assert str(line["timestamp"]).endswith("Z")


def test_libraries_speak_through_the_same_log(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="INFO", log_format="json")
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        logging.getLogger("uvicorn.error").info("it runs on %s", "a port", extra={"color_message": "\x1b[1m"})
    (line,) = lines(capsys)
    assert (line["event"], line["request_id"]) == ("it runs on a port", "r1")
    assert "color_message" not in line


def test_uvicorns_own_handlers_and_access_log_are_gone(capsys: pytest.CaptureFixture[str]) -> None:
    for name in UVICORN:
        logging.getLogger(name).addHandler(logging.StreamHandler())
    configure_logging(level="INFO", log_format="json")
    assert not logging.getLogger("uvicorn.access").hasHandlers()
    logging.getLogger("uvicorn.error").warning("once")
    assert len(lines(capsys)) == 1


def said_by(module: ModuleType, level: int, text: str) -> None:
    """Let uvicorn's logger say something, as that module does."""
    assert module.__file__ is not None
    record = logging.LogRecord("uvicorn.error", level, module.__file__, 1, text, (), None)
    if logging.getLogger("uvicorn.error").isEnabledFor(level):
        logging.getLogger("uvicorn.error").handle(record)


@pytest.mark.parametrize("own_level", [logging.NOTSET, logging.DEBUG])
def test_uvicorn_tells_of_itself_but_not_what_clients_send(own_level: int, capsys: pytest.CaptureFixture[str]) -> None:
    # As `uvicorn --log-level debug` does, before it imports the application.
    logging.getLogger("uvicorn.error").setLevel(own_level)
    configure_logging(level="DEBUG", log_format="json")
    assert not logging.getLogger("uvicorn.error").isEnabledFor(logging.DEBUG)
    said_by(uvicorn.server, logging.INFO, "Shutting down")
    said_by(websockets_sansio_impl, logging.INFO, '127.0.0.1:1 - "WebSocket /ws?key=s3cret" 401')
    said_by(websockets.server, logging.DEBUG, "< authorization: Bearer s3cret")
    said_by(websockets.server, logging.INFO, "connection open")
    said_by(websockets_sansio_impl, logging.ERROR, "Exception in ASGI application")
    said_by(websockets_sansio_impl, logging.ERROR, "ASGI callable returned without completing handshake.")
    said_by(httptools_impl, logging.WARNING, "Invalid HTTP request received.")
    assert [line["event"] for line in lines(capsys)] == ["Shutting down", "Exception in ASGI application"]


@pytest.mark.parametrize("own_level", [logging.NOTSET, logging.DEBUG])
def test_what_libraries_write_down_for_debugging_is_in_no_log(
    own_level: int, capsys: pytest.CaptureFixture[str]
) -> None:
    library = logging.getLogger("some.library")
    library.setLevel(own_level)
    configure_logging(level="DEBUG", log_format="json")
    library.debug("authorization: Bearer s3cret")
    library.info("GET https://hub.example/?signature=s3cret")
    library.warning("it is old")
    structlog.stdlib.get_logger("parakeet_service.here").debug("own")
    library.setLevel(logging.NOTSET)
    assert [line["event"] for line in lines(capsys)] == ["it is old", "own"]


def test_names_the_process_where_several_write_to_one_log(capsys: pytest.CaptureFixture[str]) -> None:
    for names_process in (True, False):
        configure_logging(level="INFO", log_format="json", names_process=names_process)
        structlog.stdlib.get_logger("parakeet_service.test").info("one_of_ours")
        logging.getLogger("library").warning("one of a library")
    assert [line.get("process") for line in lines(capsys)] == [os.getpid(), os.getpid(), None, None]


def test_says_nothing_below_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="WARNING", log_format="json")
    structlog.stdlib.get_logger("parakeet_service.here").info("own")
    logging.getLogger("there").info("foreign")
    logging.getLogger("uvicorn.error").info("uvicorn's")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_shows_where_an_error_came_from_but_no_values(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="INFO", log_format="json" if log_format == "json" else "console")
    secret = "s3cret"  # noqa: S105
    try:
        raise ZeroDivisionError(len(secret) * "x")  # noqa: TRY301
    except ZeroDivisionError:
        structlog.stdlib.get_logger("parakeet_service.here").exception("unexpected")
    text = capsys.readouterr().err
    assert "ZeroDivisionError: xxxxxx" in text
    assert "test_logs.py" in text
    assert "s3cret" not in text.replace('secret = "s3cret"', "")


def test_off_a_terminal_auto_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="INFO", log_format="auto")
    structlog.stdlib.get_logger("parakeet_service.here").info("hello")
    assert lines(capsys)[0]["event"] == "hello"


def test_for_people_it_is_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="INFO", log_format="console")
    structlog.stdlib.get_logger("parakeet_service.here").info("hello", status=200)
    text = capsys.readouterr().err
    assert "hello" in text
    assert "status=200" in text
