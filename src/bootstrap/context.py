"""What the commands get, made of the container's objects."""

import asyncio
import math
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from dependency_injector import providers

from ..application.transcribe_file import TranscribeFile
from ..config.logs import announce
from ..config.lookalikes import lookalikes
from ..config.settings import Settings
from ..domain.errors import FaultError, ModelLoadError
from ..entrypoints.cli.context import CommandContext
from ..entrypoints.http.server import free_address, serve
from .app import application, servers_of
from .container import Container
from .diagnosis import changed, facts_about
from .directories import prepare_directories
from .lifecycle import Lifecycle, serve_until_signalled
from .tracing import tracing_from_environment


def context_of(settings: Settings) -> CommandContext:
    """The service under these settings."""
    return CommandContext(
        address=f"{settings.host}, port {settings.port}",
        free_address=partial(free_address, settings.host, settings.port),
        changed_settings=changed(settings) | {wrong.name: str(wrong) for wrong in lookalikes(os.environ)},
        facts=facts_about(settings),
        serve=partial(_serve_http if settings.http else _serve_without_http, settings),
        audio_decoder=lambda: Container(settings=settings).decoder(),
        # A person who transcribes a file of their own waits as long as it takes: the limit guards a server.
        open_transcriber=lambda: _transcriber(settings.model_copy(update={"processing_timeout": math.inf})),
    )


def _serve_http(settings: Settings) -> bool:
    return serve(
        host=settings.host,
        port=settings.port,
        has_api_keys=bool(settings.api_keys),
        longest_idle_s=settings.stream_idle,
        build_app=partial(application, settings),
        say=partial(announce, log_format=settings.log_format),
    )


def _serve_without_http(settings: Settings) -> bool:
    try:
        tracing = tracing_from_environment()
        service = Container(settings=settings, tracing=providers.Object(tracing)).service()
        asyncio.run(serve_until_signalled(service, *servers_of(settings)))
    except ModelLoadError:
        # The log has it.
        return False
    except FaultError as error:
        sys.stderr.write(f"{error.message}\n")
        return False
    return True


@asynccontextmanager
async def _transcriber(settings: Settings) -> AsyncGenerator[TranscribeFile]:
    prepare_directories()
    container = Container(settings=settings)
    async with Lifecycle(model=container.model(), detector=container.detector())() as ready:
        await ready
        yield container.transcribe_file()
