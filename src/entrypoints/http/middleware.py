"""What surrounds every request: its id, its log line, and who may come in. Pure ASGI."""

import logging
import re
import secrets
import time
import uuid
from collections.abc import Sequence

import structlog
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...domain.errors import ServiceError, UnauthorizedError
from .drain import Drain
from .problems import PROBLEMS, UnexpectedError, refuse
from .record import open_record

KEY_SUBPROTOCOL = "key."
"""A browser cannot set headers on a WebSocket: it offers its key as the subprotocol ``key.<KEY>``."""

_PROBES = frozenset({"/healthz", "/readyz"})
_DOCUMENTATION = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
_SANE_ID = re.compile(r"[\w.:=+/-]{1,128}", re.ASCII)

_log = structlog.stdlib.get_logger("parakeet_service.http")


class RequestLog:
    """Gives each request and session an id and one log line, and answers what nobody expected: the outermost handler."""

    def __init__(self, app: ASGIApp) -> None:
        """Surround `app`."""
        self._app = app

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
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except Exception:  # noqa: BLE001
                _log.exception("unexpected error")
                facts["code"] = UnexpectedError.code
                await exchange.fail(scope)
            finally:
                route = getattr(scope.get("route"), "path", None)
                _log.log(
                    logging.DEBUG if scope["path"] in _PROBES else logging.INFO,
                    "request" if scope["type"] == "http" else "session",
                    method=scope.get("method", "WEBSOCKET"),
                    route=route,
                    status=exchange.status,
                    duration_ms=round((time.perf_counter() - began) * 1000, 1),
                    **facts,
                )


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
    """Lets in who has a key, and nobody once the service is going away; what is let in is waited for."""

    def __init__(self, app: ASGIApp, *, api_keys: Sequence[SecretStr], drain: Drain) -> None:
        """Guard `app`; without keys, everyone has one."""
        self._app = app
        self._keys = [key.get_secret_value().encode() for key in api_keys]
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or refuse."""
        if scope["type"] == "lifespan" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        try:
            if scope["path"] not in _DOCUMENTATION:
                self._check_key(scope)
            self._drain.check_open()
        except ServiceError as error:
            await refuse(error, scope, receive, send)
            return
        with self._drain.work():
            await self._app(scope, receive, send)

    def _check_key(self, scope: Scope) -> None:
        if not self._keys:
            return
        offered = [key.encode() for key in _offered_keys(scope)]
        # Every pair is compared, each in constant time: how long it takes says nothing about a key.
        matches = [secrets.compare_digest(key, known) for key in offered for known in self._keys]
        if not any(matches):
            raise UnauthorizedError("An API key is needed: Authorization: Bearer <key>.")


def _offered_keys(scope: Scope) -> list[str]:
    scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
    keys = [key.strip()] if scheme.lower() == "bearer" else []
    prefix = len(KEY_SUBPROTOCOL)
    return keys + [name[prefix:] for name in scope.get("subprotocols", ()) if name.startswith(KEY_SUBPROTOCOL)]
