"""Each request's id, its log line, and its place in the metrics. Pure ASGI."""

import logging
import re
import time
import uuid
from collections.abc import Container

import structlog
from opentelemetry.trace import format_trace_id, get_current_span
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ....domain.errors import ServiceError, shortage_behind
from .error_responses import ERROR_RESPONSES, UnexpectedError, log_shortage, refuse
from .http_metrics import HttpMetrics
from .path_kinds import KindOf, PathKind
from .request_context import open_request_context
from .route_path import route_path

_QUIET = (PathKind.PROBE, PathKind.PAGE, PathKind.METRICS)
_LONGEST_PATH = 200
"""Of a path that is no route's; the query is never logged, for it may have a key."""
_SANE_ID = re.compile(r"[\w.:=+/-]{1,128}", re.ASCII)

_log = structlog.stdlib.get_logger("parakeet_service.http")


class RequestLogMiddleware:
    """Gives each request and session an id, one log line and its place in the figures; answers what nobody expected."""

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics, known_paths: Container[str], kind_of: KindOf) -> None:
        """Surround `app`; what is refused before it has a route is counted by its path if that is one of `known_paths`."""
        self._app = app
        self._metrics = metrics
        self._known_paths = known_paths
        self._kind_of = kind_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application and log how it went."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get("x-request-id", "")
        request_id = offered if _SANE_ID.fullmatch(offered) else uuid.uuid4().hex
        facts = open_request_context(scope, request_id).facts
        exchange = _Exchange(receive, send, request_id)
        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id, **_trace_id()):
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except Exception as error:  # noqa: BLE001
                shortage = shortage_behind(error)
                if shortage is None:
                    _log.exception("unexpected error")
                else:
                    log_shortage(shortage, error)
                failure: ServiceError = shortage or UnexpectedError()
                facts["code"] = failure.code
                await exchange.fail(failure, scope)
            finally:
                took_s = time.perf_counter() - began
                route = getattr(scope.get("route"), "path", None)
                _log.log(
                    logging.DEBUG if self._kind_of(route_path(scope)) in _QUIET else logging.INFO,
                    "request" if scope["type"] == "http" else "session",
                    method=scope.get("method", "WEBSOCKET"),
                    route=route,
                    **({"path": scope["path"][:_LONGEST_PATH]} if route is None else {}),
                    client=(scope.get("client") or (None,))[0],
                    status=exchange.status,
                    duration_ms=round(took_s * 1000, 1),
                    **facts,
                )
                self._count(scope, route=route, status=exchange.status, took_s=took_s)

    def _count(self, scope: Scope, *, route: str | None, status: int | None, took_s: float) -> None:
        # Any path that is no template would be a label of its own: a client that tries many would fill the memory.
        path = route_path(scope)
        route = route or (path if path in self._known_paths else "unmatched")
        if scope["type"] == "http":
            self._metrics.request_answered(method=scope["method"], route=route, status=status or 499, took_s=took_s)
        else:
            self._metrics.session_ended(route=route, code=status or 1006, took_s=took_s)


def _trace_id() -> dict[str, str]:
    """For the log: the trace that this request belongs to, if it is traced."""
    span = get_current_span().get_span_context()
    return {"trace_id": format_trace_id(span.trace_id)} if span.is_valid else {}


class _Exchange:
    """The messages of one request, watched; `status` is the HTTP status or the WebSocket's close code."""

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._open = False
        self.status: int | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect" and self.status is None:
            self.status = message.get("code")
        return message

    async def send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = self._request_id
            case "websocket.accept":
                self._open = True
                MutableHeaders(scope=message)["x-request-id"] = self._request_id
            case "websocket.close":
                self.status = self.status or message.get("code", 1000)
            case _:
                pass
        try:
            await self._send(message)
        except OSError:
            self.status = self.status or 1006
            raise

    async def fail(self, failure: ServiceError, scope: Scope) -> None:
        """Tell the client, unless the answer is on its way already: then only the server can break it off."""
        if self.status is not None:
            return
        if self._open:
            await self.send({"type": "websocket.close", "code": ERROR_RESPONSES[failure.code].close_code})
        else:
            await refuse(failure, scope, self.receive, self.send)
