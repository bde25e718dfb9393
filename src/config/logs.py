"""One log for the service and for the libraries under it: structlog's lines, to standard error."""

import logging
import os
import sys
from pathlib import Path
from typing import Literal, TypeAlias

import structlog
import uvicorn.protocols
import websockets
from structlog.typing import Processor

LogFormat: TypeAlias = Literal["auto", "console", "json"]

_OURS = "parakeet_service"
_LIBRARIES_FROM = logging.WARNING
"""Below this level libraries write down what they send and receive: keys, texts and audio among it."""
_SERVERS_FROM = logging.INFO
"""uvicorn says at this level that it starts and stops."""
_OWN_LINE_INSTEAD = ("uvicorn.access",)
"""Loggers that would say again what our one line per request says."""
_ABOUT_ONE_CLIENT = tuple(f"{Path(module.__file__ or '').parent}{os.sep}" for module in (uvicorn.protocols, websockets))
"""Where uvicorn's logger is used for single connections, whose URLs may have keys in them; websockets gets it, too."""
_NOT_WORTH_SAYING = (
    # uvicorn 0.54 says so of every WebSocket that is properly refused with an HTTP answer.
    "ASGI callable returned without completing handshake.",
    # Our own line says from where, and why.
    "Invalid HTTP request received.",
)


def configure_logging(*, level: str, log_format: LogFormat, names_process: bool = False) -> None:
    """Log from `level` on: for people on a terminal, one JSON object a line elsewhere; may be called again.

    With `names_process` each line has the number of its process as `process`: where several write to one log.
    Call it after uvicorn has configured its own logging, which it does before it imports the application.
    """
    console = _is_console(log_format)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=not console),
        *([_add_process] if names_process else []),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # A cached logger would not follow a second call, nor `structlog.testing.capture_logs`.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_may_be_said)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(console=console)],
        )
    )
    number = logging.getLevelNamesMapping()[level]
    logging.basicConfig(handlers=[handler], level=max(number, _LIBRARIES_FROM), force=True)
    logging.getLogger(_OURS).setLevel(number)
    _adopt_uvicorn(max(number, _SERVERS_FROM))


def announce(message: str, *, log_format: LogFormat, failed: bool = False) -> None:
    """Say what a person who starts the service must see, at any level: plainly, or as a line of a JSON log.

    There it is an error if the service `failed`.
    """
    if _is_console(log_format):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
        return
    logger = logging.getLogger(f"{_OURS}.announcements")
    logger.setLevel(logging.INFO)
    log = structlog.stdlib.get_logger(logger.name)
    (log.error if failed else log.info)(message)


def _is_console(log_format: LogFormat) -> bool:
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def _rendering(*, console: bool) -> list[Processor]:
    if console:
        # The default formatter, with rich installed, shows local variables: texts and keys among them.
        renderer = structlog.dev.ConsoleRenderer(
            # As https://no-color.org has it: set, and not empty.
            colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
            exception_formatter=structlog.dev.plain_traceback,
        )
        return [_without_colour_copy, renderer]
    return [
        _without_colour_copy,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]


def _add_process(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Say which process writes this."""
    event["process"] = os.getpid()
    return event


def _without_colour_copy(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Drop uvicorn's second, coloured copy of its message."""
    event.pop("color_message", None)
    return event


def _may_be_said(record: logging.LogRecord) -> bool:
    """Whether a record may be in the log: everything of ours, and of the libraries what cannot quote a client.

    The loggers' levels say the same, so that nobody takes the trouble; but any library may set its own.
    """
    if _is_of(record, _OURS):
        return True
    if record.getMessage() in _NOT_WORTH_SAYING:
        return False
    if _is_of(record, "uvicorn") and not record.pathname.startswith(_ABOUT_ONE_CLIENT):
        return record.levelno >= _SERVERS_FROM
    return record.levelno >= _LIBRARIES_FROM


def _is_of(record: logging.LogRecord, package: str) -> bool:
    return record.name == package or record.name.startswith(f"{package}.")


def _adopt_uvicorn(level: int) -> None:
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        # websockets looks at it once a connection, and spells out every frame if it may.
        logger.setLevel(level)
    for name in _OWN_LINE_INSTEAD:
        logger = logging.getLogger(name)
        # uvicorn asks `hasHandlers()` for each connection: with none, it does not even build the line.
        logger.handlers.clear()
        logger.propagate = False
