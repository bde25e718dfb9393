"""One log for the service and for the libraries under it: structlog's lines, to standard error."""

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

_OWN_LINE_INSTEAD = ("uvicorn.access",)
"""Loggers that would say again what our one line per request says."""


def configure_logging(*, level: str, log_format: Literal["auto", "console", "json"]) -> None:
    """Log from `level` on: for people on a terminal, one JSON object a line elsewhere; may be called again.

    Call it after uvicorn has configured its own logging, which it does before it imports the application.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=not console),
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
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(console=console)],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    _adopt_uvicorn()


def _rendering(*, console: bool) -> list[Processor]:
    if console:
        # The default formatter, with rich installed, shows local variables: texts and keys among them.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [_without_colour_copy, renderer]
    return [
        _without_colour_copy,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]


def _without_colour_copy(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Drop uvicorn's second, coloured copy of its message."""
    event.pop("color_message", None)
    return event


def _is_true(record: logging.LogRecord) -> bool:
    # uvicorn 0.54 says so of every WebSocket that is properly refused with an HTTP answer.
    return record.getMessage() != "ASGI callable returned without completing handshake."


def _adopt_uvicorn() -> None:
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.addFilter(_is_true)
    for name in _OWN_LINE_INSTEAD:
        logger = logging.getLogger(name)
        # uvicorn asks `hasHandlers()` for each connection: with none, it does not even build the line.
        logger.handlers.clear()
        logger.propagate = False
