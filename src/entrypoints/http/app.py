"""The HTTP application: routes and what surrounds them, on the service it is given."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

import structlog
import uvicorn
from fastapi import FastAPI, Security
from fastapi.routing import iter_route_contexts
from fastapi.security import HTTPBearer
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware

from ...application.service import Service
from ...config.settings import Settings
from . import page
from .asr import routes as asr
from .deepgram import live_routes as deepgram_live
from .deepgram import routes as deepgram
from .guards.access import AccessMiddleware
from .guards.client_secrets import ClientSecrets
from .guards.error_responses import LISTEN, install_error_handlers
from .guards.hosts import HostMiddleware
from .guards.http_metrics import HttpMetrics
from .guards.keys import KeyRing, is_loopback
from .guards.path_kinds import PathKind
from .guards.prefix import PrefixMiddleware
from .guards.request_log import RequestLogMiddleware
from .guards.upload_limits import UploadLimitMiddleware, UploadPace
from .guards.websocket_gateway import WebSocketGateway
from .jobs import routes as jobs
from .jobs.owners import owner_of, owner_tag
from .live import routes as live
from .openai import routes as openai
from .openai.realtime import routes as realtime
from .probes import health
from .probes.metrics import METRICS
from .probes.metrics import router as metrics_router
from .protocol import guard_connections
from .recordings import routes as recordings
from .recordings.uploads import IGNORED_HEADER
from .recordings.warnings import WARNINGS_HEADER
from .shutdown import drain_on_signals, running_server

_log = structlog.stdlib.get_logger(__name__)

_LEAST_UPLOADS = 64
# FastAPI's own default looks for a provider at every request, and obeys a variable of its own.
_NO_TELEMETRY = TelemetryConfig(tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False)
_DESCRIPTION = (
    "Speech to text with NVIDIA Parakeet-TDT: whole recordings over REST, live audio over WebSocket at `/ws` and "
    "`/v1/realtime`."
)


def create_app(
    *,
    settings: Settings,
    service: Service,
    metrics: HttpMetrics,
    exposition: Callable[[str], tuple[bytes, str]],
    on_fatal: Callable[[], None],
    telemetry: TelemetryConfig | None = None,
    send_timeout_s: float = 30.0,
) -> FastAPI:
    """Build the application.

    Args:
        settings: What limits and guards the routes.
        service: The use-cases, and their lifecycle, which the application enters while it runs.
        metrics: Counts requests, sessions and uploads.
        exposition: Gives the metrics and their media type for an ``Accept`` header.
        on_fatal: Ends the process; called when the service can never become ready.
        telemetry: How requests are traced; without it, they are not.
        send_timeout_s: Longest time that a live client may leave a message unread.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        _log.info("starting", version=app.version, model=settings.model_id)
        server = running_server()
        if server is not None:
            guard_connections(
                server,
                header_timeout_s=settings.header_timeout,
                keepalive_timeout_s=settings.keepalive_timeout,
            )
        if not settings.api_keys:
            _warn_of_open_door(server)
        # Probes are answered while the model is loaded.
        async with service.lifecycle() as ready:

            def has_failed() -> bool:
                return ready.done() and not ready.cancelled() and ready.exception() is not None

            ready.add_done_callback(lambda _: on_fatal() if has_failed() else None)
            with drain_on_signals(service.drain, has_failed=has_failed):
                yield

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
    # For the documentation alone, which offers to fill it in: `AccessMiddleware` has checked the key before.
    keys = [Security(HTTPBearer(auto_error=False))] if settings.api_keys else []
    owners = settings.key_owners
    signing_key = settings.client_secret_key
    client_secrets = ClientSecrets(None if signing_key is None else signing_key.get_secret_value().encode())
    gateway = WebSocketGateway(allowed_origins=settings.allowed_origins, send_timeout_s=send_timeout_s)
    app.include_router(page.router())
    app.include_router(
        health.router(
            settings=settings,
            model=service.model,
            drain=service.drain,
            jobs_owner=None if service.jobs is None else lambda request: owner_tag(owner_of(owners, request)),
        )
    )
    app.include_router(metrics_router(exposition=exposition), dependencies=keys)
    app.include_router(recordings.router(service.transcribe_file), dependencies=keys)
    app.include_router(openai.router(service.transcribe_file, model=service.model), dependencies=keys)
    app.include_router(asr.router(service.transcribe_file, model=service.model), dependencies=keys)
    app.include_router(deepgram.router(service), dependencies=keys)
    app.include_router(deepgram_live.router(service, gateway=gateway, longest_idle_s=settings.stream_idle))
    if service.jobs is not None:
        app.include_router(
            jobs.router(service.jobs, service.transcribe_file, owners=owners, drain=service.drain),
            dependencies=keys,
        )
    app.include_router(live.router(service, gateway=gateway, longest_idle_s=settings.stream_idle))
    app.include_router(realtime.router(service, gateway=gateway, client_secrets=client_secrets))
    app.include_router(realtime.secrets_router(model=service.model, client_secrets=client_secrets), dependencies=keys)
    # The last one added is the outermost.
    app.add_middleware(
        UploadLimitMiddleware,
        limit_bytes=settings.max_upload_bytes,
        most=lambda: settings.max_uploads or max(4 * service.model.describe().batch_size, _LEAST_UPLOADS),
        pace=UploadPace(
            longest_pause_s=settings.upload_pause,
            least_bytes_per_s=settings.min_upload_rate,
            longest_s=settings.upload_timeout,
        ),
        raw_paths=(LISTEN,),
        check_ready=service.model.describe,
        metrics=metrics,
    )
    app.add_middleware(
        AccessMiddleware,
        keys=KeyRing(settings.named_keys),
        client_secrets=client_secrets,
        quota=service.quota,
        drain=service.drain,
        kind_of=_kind_of,
    )
    if not settings.api_keys:
        app.add_middleware(HostMiddleware, allowed=settings.allowed_hosts, kind_of=_kind_of)
    app.add_middleware(RequestLogMiddleware, metrics=metrics, known_paths=_paths(app), kind_of=_kind_of)
    app.add_middleware(PrefixMiddleware, prefix=settings.root_path)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            # OpenAI's client reads the first three in browsers, too.
            expose_headers=["x-request-id", "retry-after", "x-should-retry", IGNORED_HEADER, WARNINGS_HEADER],
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
    return PathKind.METRICS if path == METRICS else PathKind.API


def _paths(app: FastAPI) -> frozenset[str]:
    return frozenset(route.path for route in iter_route_contexts(app.routes) if route.path is not None)


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
