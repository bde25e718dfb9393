"""The web application, and what runs beside it."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
from dependency_injector import providers
from fastapi import FastAPI

from ..config.flags import load_settings
from ..config.logs import configure_logging
from ..config.lookalikes import lookalikes
from ..config.settings import Settings, key_problems
from ..entrypoints.http.app import create_app
from .container import Container, wyoming_server
from .directories import prepare_directories
from .jobs import jobs
from .lifecycle import Server, beside
from .mounted_mcp import MountedMcp
from .tracing import tracing_from_environment

_log = structlog.stdlib.get_logger(__name__)


def build_app(settings: Settings | None = None) -> FastAPI:
    """The web application; without `settings`, under those of the environment."""
    settings = settings or load_settings()
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    return application(settings, on_fatal=lambda: signal.raise_signal(signal.SIGTERM))


def application(settings: Settings, on_fatal: Callable[[], None]) -> FastAPI:
    """The web application; `on_fatal` ends the process, when it can never become ready.

    Raises:
        FaultError: It cannot be made; the message says why.
    """
    for name, meant in lookalikes(os.environ):
        _log.warning("unknown setting in the environment", name=name, did_you_mean=meant)
    for problem in key_problems(settings):
        _log.warning(problem)
    prepare_directories()
    tracing = tracing_from_environment()
    container = Container(settings=settings, tracing=providers.Object(tracing))
    # All of it, now: without its decoder, or with a place for jobs that cannot be used, the service must not start.
    service = container.service()
    background = jobs(
        settings,
        container.transcribe_file(),
        container.quota(),
        container.metrics(),
        container.drain(),
        container.web(),
    )
    if background is not None:
        service = replace(service, jobs=background.use_case)
    mcp = MountedMcp(settings) if settings.mcp else None
    servers: list[Server] = [
        *(() if background is None else (background,)),
        *(() if mcp is None else (mcp.server,)),
    ]
    app = create_app(
        settings=settings,
        service=beside(service, servers),
        metrics=container.metrics(),
        exposition=container.metrics().exposition,
        on_fatal=on_fatal,
        telemetry=None if tracing is None else tracing.of_requests,
    )
    if mcp is not None:
        mcp.mount(app)
    # Their sockets are bound now, not before the routes are made, and they are entered before the others: who connects
    # would wait for all that. Home Assistant waits for a second.
    servers[:0] = servers_of(settings)
    return app


def servers_of(settings: Settings) -> Sequence[Server]:
    """What runs beside HTTP, or without it.

    Raises:
        FaultError: It cannot.
    """
    if settings.wyoming_port is None and not settings.wyoming_socket:
        return ()
    return (wyoming_server(settings),)
