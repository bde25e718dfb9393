"""The composition root: the web application and the command, each made of the container's objects."""

import math
import signal
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from dependency_injector import providers
from fastapi import FastAPI

from ..application.transcribe_file import TranscribeFile
from ..config.flags import add_flags, load_settings
from ..config.logs import configure_logging
from ..config.settings import Settings
from ..entrypoints import cli
from ..entrypoints.cli.context import CommandContext
from ..entrypoints.http.app import create_app
from ..entrypoints.http.server import free_address, serve
from .container import Container
from .diagnosis import changed, facts_about
from .lifecycle import Lifecycle
from .tracing import tracing_from_environment


def build_app(settings: Settings | None = None) -> FastAPI:
    """The web application; without `settings`, under those of the environment."""
    settings = settings or load_settings()
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    return _app(settings, on_fatal=lambda: signal.raise_signal(signal.SIGTERM))


def run_cli(arguments: Sequence[str]) -> int:
    """Run one command of ``parakeet-service`` and give its exit code."""
    return cli.main(arguments, configure=_configure)


def _configure(parser: ArgumentParser) -> Callable[[Namespace], CommandContext]:
    read = add_flags(parser)
    return lambda parsed: _context(read(parsed))


def _context(settings: Settings) -> CommandContext:
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    return CommandContext(
        address=f"{settings.host}, port {settings.port}",
        free_address=partial(free_address, settings.host, settings.port),
        changed_settings=changed(settings),
        facts=facts_about(settings),
        serve=partial(
            serve,
            host=settings.host,
            port=settings.port,
            has_api_keys=bool(settings.api_keys),
            build_app=partial(_app, settings),
        ),
        audio_decoder=lambda: Container(settings=settings).decoder(),
        # A person who transcribes a file of their own waits as long as it takes: the limit guards a server.
        open_transcriber=lambda: _transcriber(settings.model_copy(update={"processing_timeout": math.inf})),
    )


def _app(settings: Settings, on_fatal: Callable[[], None]) -> FastAPI:
    tracing = tracing_from_environment()
    container = Container(settings=settings, tracing=providers.Object(tracing))
    return create_app(
        settings=settings,
        # All of it, now: without its decoder the service must not start.
        service=container.service(),
        metrics=container.metrics(),
        exposition=container.metrics().exposition,
        on_fatal=on_fatal,
        telemetry=None if tracing is None else tracing.of_requests,
    )


@asynccontextmanager
async def _transcriber(settings: Settings) -> AsyncGenerator[TranscribeFile]:
    container = Container(settings=settings)
    async with Lifecycle(model=container.model(), detector=container.detector())() as ready:
        await ready
        yield container.transcribe_file()
