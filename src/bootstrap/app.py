"""The web application, and what runs beside it."""

import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from dependency_injector import providers
from fastapi import FastAPI
from pydantic import SecretStr

from ..application.drain import Drain
from ..application.service import Service
from ..config.flags import load_settings
from ..config.logs import configure_logging
from ..config.lookalikes import lookalikes
from ..config.settings import Settings, key_problems
from ..domain.errors import ModelLoadError
from ..entrypoints.http.app import create_app
from ..entrypoints.http.sharing import Loads, Share
from .container import Container, prometheus, shared_model, wyoming_server
from .directories import prepare_directories, private_directory
from .engines import advice
from .fronts import Fronts
from .garbage import collect_seldom
from .jobs import Jobs, jobs
from .lifecycle import Server, beside
from .mounted_mcp import MountedMcp
from .tracing import tracing_from_environment

if TYPE_CHECKING:
    from ..adapters.telemetry.opentelemetry import Tracing

_log = structlog.stdlib.get_logger(__name__)

_LOADS = "loads"
_LONGEST_PLACE = 90
"""Bytes of a directory below which a socket may be: macOS allows 104 for the whole path."""


def build_app(settings: Settings | None = None) -> FastAPI:
    """The web application; without `settings`, under those of the environment."""
    settings = settings or load_settings()
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    if settings.http_processes > 1:
        _log.warning("HTTP_PROCESSES has no effect here: it is for `parakeet-service serve`")
        settings = settings.model_copy(update={"http_processes": 1})
    app, _ = application(settings, lambda: signal.raise_signal(signal.SIGTERM))
    return app


def application(
    settings: Settings, on_fatal: Callable[[], None], listeners: Sequence[socket.socket] = ()
) -> tuple[FastAPI, Share | None]:
    """The web application, and its share of `listeners`; `on_fatal` ends the process, when it can never become ready.

    Raises:
        FaultError: It cannot be made; the message says why.
    """
    for name, meant in lookalikes(os.environ):
        _log.warning("unknown setting in the environment", name=name, did_you_mean=meant)
    for problem in key_problems(settings):
        _log.warning(problem)
    # Only as `parakeet-service serve` may there be more.
    if listeners and (gain := advice(settings)) is not None:
        _log.info(gain)
    prepare_directories()
    tracing = tracing_from_environment()
    common = _common_directory() if settings.http_processes > 1 else None
    loads = None if common is None else Loads(common / _LOADS, settings.http_processes)
    if common is not None and settings.client_secret_key is None:
        # What one process has signed, all take.
        settings = settings.model_copy(update={"client_secret_key": SecretStr(secrets.token_hex(32))})
    container = Container(settings=settings, tracing=providers.Object(tracing), common=providers.Object(common))
    # All of it, now: without its decoder, or with a place for jobs that cannot be used, the service must not start.
    service = container.service()
    background = _jobs(settings, container)
    if background is not None:
        service = replace(service, jobs=background.use_case)
    mcp = MountedMcp(settings) if settings.mcp else None
    servers: list[Server] = [
        *(() if background is None else (background,)),
        *(() if mcp is None else (mcp.server,)),
        # The last: they find what the others have prepared.
        *(
            ()
            if common is None or loads is None
            else (Fronts(_of_fronts(settings, background), listeners, _front_app, common, loads),)
        ),
    ]
    app = _web_application(settings, container, beside(service, servers), on_fatal, tracing)
    if mcp is not None:
        mcp.mount(app)
    # Their sockets are bound now, not before the routes are made, and they are entered before the others: who connects
    # would wait for all that. Home Assistant waits for a second.
    servers[:0] = servers_of(settings)
    return app, None if loads is None else Share(loads, 0)


def servers_of(settings: Settings) -> Sequence[Server]:
    """What runs beside HTTP, or without it.

    Raises:
        FaultError: It cannot.
    """
    if settings.wyoming_port is None and not settings.wyoming_socket:
        return ()
    return (wyoming_server(settings),)


def _common_directory() -> Path:
    """What the processes that speak HTTP have in common.

    Raises:
        ModelLoadError: No socket can be there.
    """
    common = private_directory("common")
    if len(os.fsencode(common)) > _LONGEST_PLACE:
        raise ModelLoadError(f"TMPDIR: {common.parent} is too long a path for a socket below it; set a shorter one.")
    return common


def _require_common(common: Path) -> None:
    """Have what the processes share still be there; the model's process, if it was replaced, has made a part of it again.

    Raises:
        ModelLoadError: It was deleted.
    """
    if not (common / _LOADS).exists():
        raise ModelLoadError(
            f"The directory {common}, which all processes of the service share, was deleted or emptied: no further process "
            "can join. Exclude it from whatever cleans up temporary files, and restart the service."
        )


def _of_fronts(settings: Settings, background: Jobs | None) -> Settings:
    """The settings of the processes beside this one, which has decided what they leave open."""
    return settings.model_copy(update={"jobs": "off" if background is None else "on"})


def _front_app(
    settings: Settings, common: Path, number: int, on_fatal: Callable[[], None]
) -> tuple[FastAPI, Share, Drain]:
    """The application of a process beside the one that has the model, reads jobs and speaks all other protocols.

    Raises:
        ModelLoadError: What it has in common with that one is gone.
    """
    _require_common(common)
    tracing = tracing_from_environment()
    metrics = prometheus(common)
    container = Container(
        settings=settings,
        tracing=providers.Object(tracing),
        metrics=providers.Object(metrics),
        model=providers.Object(shared_model(metrics, tracing, common)),
    )
    service = container.service()
    background = _jobs(settings, container, reads=False)
    servers: Sequence[Server] = ()
    if background is not None:
        service, servers = replace(service, jobs=background.use_case), (background,)
    app = _web_application(settings, container, beside(service, servers), on_fatal, tracing)
    return app, Share(Loads(common / _LOADS, settings.http_processes), number), container.drain()


def _jobs(settings: Settings, container: Container, *, reads: bool = True) -> Jobs | None:
    return jobs(
        settings,
        container.transcribe_file(),
        container.quota(),
        container.metrics(),
        container.drain(),
        container.web(),
        reads=reads,
    )


def _web_application(
    settings: Settings,
    container: Container,
    service: Service,
    on_fatal: Callable[[], None],
    tracing: "Tracing | None",
) -> FastAPI:
    app = create_app(
        settings=settings,
        service=service,
        metrics=container.metrics(),
        exposition=container.metrics().exposition,
        on_fatal=on_fatal,
        telemetry=None if tracing is None else tracing.of_requests,
    )
    # All that lives as long as the service is there now, but for the model.
    collect_seldom()
    return app
