"""What surrounds every request: its id, its log line, and who may come in. Pure ASGI."""

import logging
import re
import time
import uuid
from collections.abc import Container, Mapping
from contextlib import suppress

import structlog
from opentelemetry.trace import format_trace_id, get_current_span
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...domain.errors import RateLimitError, ServiceError, UnauthorizedError
from .client_secrets import ClientSecrets
from .drain import Drain
from .keys import KeyRing, address_of
from .metrics import METRICS
from .page import is_page
from .problems import PROBLEMS, UnexpectedError, refuse
from .rate_limits import Allowance, RateLimits, grant
from .reception import refuse_unread
from .record import facts_of, note, open_record
from .traffic import Traffic

_PROBES = frozenset({"/healthz", "/readyz"})
_QUIET = _PROBES | {METRICS}
_DOCUMENTATION = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
_SANE_ID = re.compile(r"[\w.:=+/-]{1,128}", re.ASCII)

_log = structlog.stdlib.get_logger("parakeet_service.http")


class RequestLog:
    """Gives each request and session an id, one log line and its place in the figures; answers what nobody expected."""

    def __init__(self, app: ASGIApp, *, traffic: Traffic, known_paths: Container[str]) -> None:
        """Surround `app`; what is refused before it has a route is counted by its path if that is one of `known_paths`."""
        self._app = app
        self._traffic = traffic
        self._known_paths = known_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application and log how it went."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get("x-request-id", "")
        request_id = offered if _SANE_ID.fullmatch(offered) else uuid.uuid4().hex
        facts = open_record(scope, request_id)
        exchange = _Exchange(receive, send, request_id)
        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id, **_trace_id()):
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except Exception:  # noqa: BLE001
                _log.exception("unexpected error")
                facts["code"] = UnexpectedError.code
                await exchange.fail(scope)
            finally:
                took_s = time.perf_counter() - began
                route = getattr(scope.get("route"), "path", None)
                _log.log(
                    logging.DEBUG if scope["path"] in _QUIET or is_page(scope["path"]) else logging.INFO,
                    "request" if scope["type"] == "http" else "session",
                    method=scope.get("method", "WEBSOCKET"),
                    route=route,
                    status=exchange.status,
                    duration_ms=round(took_s * 1000, 1),
                    **facts,
                )
                self._count(scope, facts, route=route, status=exchange.status, took_s=took_s)

    def _count(
        self, scope: Scope, facts: Mapping[str, object], *, route: str | None, status: int | None, took_s: float
    ) -> None:
        # Any path that is no template would be a label of its own: whoever tries many would fill the memory.
        path: str = scope["path"]
        route = route or (path if path in self._known_paths else "unmatched")
        audio_s, work_ms = facts.get("audio_s"), facts.get("work_ms", took_s * 1000)
        if scope["type"] == "http":
            self._traffic.request_answered(method=scope["method"], route=route, status=status or 499, took_s=took_s)
            if isinstance(audio_s, float) and isinstance(work_ms, float):
                self._traffic.recording_read(audio_s=audio_s, took_s=work_ms / 1000)
        else:
            self._traffic.session_ended(route=route, code=status or 1006, took_s=took_s)
            if isinstance(audio_s, float):
                self._traffic.speech_heard(audio_s=audio_s)


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

    async def fail(self, scope: Scope) -> None:
        """Tell the client, unless the answer is on its way already: then only the server can break it off."""
        if self.status is not None:
            return
        if self._open:
            await self.send({"type": "websocket.close", "code": PROBLEMS[UnexpectedError.code].close_code})
        else:
            await refuse(UnexpectedError(), scope, self.receive, self.send)


class Gate:
    """Lets in who has a key and a share left, and nobody once the service is going away; who is let in is waited for."""

    def __init__(
        self, app: ASGIApp, *, keys: KeyRing, client_secrets: ClientSecrets, limits: RateLimits, drain: Drain
    ) -> None:
        """Guard `app`."""
        self._app = app
        self._keys = keys
        self._client_secrets = client_secrets
        self._limits = limits
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or refuse."""
        if scope["type"] == "lifespan" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._admit(scope)
            self._drain.check_open()
        except ServiceError as error:
            await refuse_unread(error, scope, receive, send)
            return
        if caller is not None and scope["type"] == "websocket":
            grant(scope, Allowance(self._limits, caller))
        try:
            with self._drain.work():
                await self._app(scope, receive, send)
        finally:
            audio_s = facts_of(scope).get("audio_s")
            # A live session has paid already.
            if caller is not None and scope["type"] == "http" and isinstance(audio_s, float):
                # Who has thereby gone beyond the limit hears of it at the next request.
                with suppress(RateLimitError):
                    await self._limits.charge(caller, audio_s)

    async def _admit(self, scope: Scope) -> str | None:
        """The caller, by the name of its key or by its address; None for what anyone may ask for at any time."""
        if scope["path"] in _DOCUMENTATION or is_page(scope["path"]):
            return None
        name = None if self._keys.is_empty else self._keys.name_of(scope) or self._client_secrets.owner_of(scope)
        if name is not None:
            note(HTTPConnection(scope), key=name)
            if scope["path"] == METRICS:
                return None
        # Whoever has no key is counted, too, by address: guessing has its limit.
        caller = f"address {address_of(scope)}" if name is None else f"key {name}"
        await self._limits.admit(caller)
        if name is None and not self._keys.is_empty:
            raise UnauthorizedError("An API key is needed: Authorization: Bearer <key>.")
        return caller
