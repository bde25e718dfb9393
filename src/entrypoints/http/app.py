"""The HTTP application: routes and what surrounds them, on the use-cases it is given."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

import structlog
import uvicorn
from fastapi import FastAPI, Security
from fastapi.routing import iter_route_contexts
from fastapi.security import HTTPBearer
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware

from ...application.ports.speech_model import SpeechModel
from ...application.stream_session import StreamSession
from ...application.transcribe_file import TranscribeFile
from ...config.settings import Settings
from ...domain.errors import ServiceError
from . import page
from .guards.access import AccessMiddleware
from .guards.client_secrets import ClientSecrets
from .guards.drain import Drain, drain_on_signals, running_server
from .guards.error_responses import install_error_handlers
from .guards.http_metrics import HttpMetrics
from .guards.keys import KeyRing, is_loopback
from .guards.path_kinds import PathKind
from .guards.rate_limits import RateLimits
from .guards.request_log import RequestLogMiddleware
from .guards.upload_limits import UploadLimitMiddleware
from .guards.websocket_gateway import WebSocketGateway
from .live import routes as websocket
from .openai import routes as openai
from .openai.realtime import routes as realtime
from .probes import health, metrics
from .recordings import routes as transcribe

_log = structlog.stdlib.get_logger(__name__)

# FastAPI's own default looks for a provider at every request, and obeys a variable of its own.
_NO_TELEMETRY = TelemetryConfig(tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False)
_DESCRIPTION = (
    "Speech to text with NVIDIA Parakeet-TDT: whole recordings over REST, live audio over WebSocket at `/ws` and "
    "`/v1/realtime`."
)


def create_app(
    *,
    settings: Settings,
    transcribe_file: Callable[[], TranscribeFile],
    stream_session: Callable[[], StreamSession],
    model: Callable[[], SpeechModel],
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
    on_fatal: Callable[[], None],
    http_metrics: HttpMetrics,
    exposition: Callable[[str], tuple[bytes, str]],
    telemetry: TelemetryConfig | None = None,
    grace_s: float = 30.0,
    send_timeout_s: float = 30.0,
) -> FastAPI:
    """Build the application.

    Args:
        settings: What limits and guards the routes.
        transcribe_file: Gives the use-case for recordings.
        stream_session: Gives the use-case for live audio.
        model: Gives the model, ready or not.
        start: Makes the model ready; runs beside the server, which answers probes meanwhile.
        stop: Frees what `start` took; called at the end in any case.
        on_fatal: Ends the process; called when `start` failed.
        http_metrics: Hears what comes and goes.
        exposition: Gives the figures and their media type for an ``Accept`` header.
        telemetry: How requests are traced; without it, they are not.
        grace_s: Longest time that a shutdown waits for work to finish.
        send_timeout_s: Longest time that a live client may leave a message unread.
    """
    drain = Drain(grace_s=grace_s)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        if not settings.api_keys:
            _warn_of_open_door(running_server())
        starting = asyncio.create_task(_run(start))
        starting.add_done_callback(lambda task: _report(task, drain, on_fatal))
        try:
            with drain_on_signals(drain):
                yield
        finally:
            starting.cancel()
            await asyncio.wait((starting,))
            await stop()

    app = FastAPI(
        telemetry=telemetry or _NO_TELEMETRY,
        title="parakeet-service",
        version=version("parakeet-service"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        # Starlette's own bounds would let the text fields of one request fill a gigabyte of memory.
        form_limits={"max_files": 1, "max_fields": 64, "max_part_size": 1 << 16},
    )
    install_error_handlers(app)
    # For the documentation alone, which offers to fill it in: the gate has looked at the key before.
    keys = [Security(HTTPBearer(auto_error=False))] if settings.api_keys else []
    app.include_router(page.router())
    app.include_router(health.router(settings=settings, model=model, drain=drain))
    app.include_router(metrics.router(exposition=exposition), dependencies=keys)
    app.include_router(transcribe.router(transcribe_file=transcribe_file), dependencies=keys)
    app.include_router(openai.router(transcribe_file=transcribe_file, model=model), dependencies=keys)
    door = WebSocketGateway(model=model, allowed_origins=settings.allowed_origins, send_timeout_s=send_timeout_s)
    client_secrets = ClientSecrets()
    app.include_router(
        websocket.router(stream_session=stream_session, door=door, drain=drain, longest_idle_s=settings.stream_idle)
    )
    app.include_router(
        realtime.router(stream_session=stream_session, door=door, drain=drain, client_secrets=client_secrets)
    )
    app.include_router(realtime.secrets_router(model=model, client_secrets=client_secrets), dependencies=keys)
    # The last one added is the outermost.
    app.add_middleware(
        UploadLimitMiddleware,
        limit_bytes=settings.max_upload_bytes,
        most=settings.max_uploads,
        longest_pause_s=settings.upload_pause,
        check_ready=lambda: model().describe(),
        metrics=http_metrics,
    )
    app.add_middleware(
        AccessMiddleware,
        keys=KeyRing(settings.named_keys),
        client_secrets=client_secrets,
        limits=RateLimits(requests=settings.rate_limit, audio_s=settings.audio_rate_limit),
        drain=drain,
        kind_of=_kind_of,
    )
    app.add_middleware(RequestLogMiddleware, metrics=http_metrics, known_paths=_paths(app), kind_of=_kind_of)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            # OpenAI's client reads the first three in browsers, too.
            expose_headers=["x-request-id", "retry-after", "x-should-retry", openai.IGNORED_HEADER],
        )
    return app


_PROBES = frozenset({"/healthz", "/readyz"})
_DOCUMENTATION = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})


def _kind_of(path: str) -> PathKind:
    if path in _PROBES:
        return PathKind.PROBE
    if page.is_page(path):
        return PathKind.PAGE
    if path in _DOCUMENTATION:
        return PathKind.DOCUMENTATION
    return PathKind.METRICS if path == metrics.METRICS else PathKind.API


def _paths(app: FastAPI) -> frozenset[str]:
    return frozenset(route.path for route in iter_route_contexts(app.routes) if route.path is not None)


async def _run(start: Callable[[], Awaitable[None]]) -> None:
    await start()


def _warn_of_open_door(server: uvicorn.Server | None) -> None:
    # `parakeet-service serve` binds by itself, and says it itself: then there are no host and port here but defaults.
    if server is None or server.config.uds is not None or server.config.fd is not None:
        return
    host = server.config.host
    if not is_loopback(host):
        _log.warning(
            "anyone who can connect may use this service: it is reachable from other machines, and API_KEYS is empty",
            host=host,
        )


def _report(starting: asyncio.Task[None], drain: Drain, on_fatal: Callable[[], None]) -> None:
    if starting.cancelled():
        return
    error = starting.exception()
    if error is None:
        _log.info("ready")
        return
    code = error.code if isinstance(error, ServiceError) else None
    expected = isinstance(error, ServiceError)
    _log.critical("the model could not be loaded", code=code, reason=str(error), exc_info=None if expected else error)
    drain.failed = True
    on_fatal()
