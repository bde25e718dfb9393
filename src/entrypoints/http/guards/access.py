"""Who may come in. Pure ASGI."""

from fastapi.sse import format_sse_event
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ....application.drain import Drain
from ....application.ports.quota import Quota
from ....domain.errors import ServiceError, ShuttingDownError
from .client_secrets import ClientSecrets
from .error_responses import error_response
from .errors import UnauthorizedError
from .keys import KeyRing, caller_of, offered_keys
from .path_kinds import KindOf, PathKind
from .request_context import note, request_context
from .route_path import route_path
from .upload_limits import LINGER_S, refuse_unread

_EVENT_STREAM = "text/event-stream"
_NO_KEY = "An API key is required: Authorization: Bearer <key>."
_WRONG_KEY = "The API key is not valid, or has expired."
_LAST_LINGER_S = 1.0
"""How long an upload that the end of a shutdown cuts off may go on, to nobody."""


class AccessMiddleware:
    """Lets in who has a key and a share left, and nobody once the service is going away; who is let in is waited for."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        client_secrets: ClientSecrets,
        quota: Quota,
        drain: Drain,
        kind_of: KindOf,
    ) -> None:
        """Guard `app`."""
        self._app = app
        self._keys = keys
        self._client_secrets = client_secrets
        self._quota = quota
        self._drain = drain
        self._kind_of = kind_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or refuse."""
        if scope["type"] == "lifespan" or self._kind_of(route_path(scope)) is PathKind.PROBE:
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            request_context(HTTPConnection(scope)).caller = await self._admit(scope)
            if scope["type"] == "http":
                async with self._drain.bounded_work():
                    await self._app(scope, receive, answer.send)
            else:
                # A live session has last words to tell when the service goes.
                with self._drain.work():
                    await self._app(scope, receive, answer.send)
        except ServiceError as error:
            if not answer.begun:
                linger_s = _LAST_LINGER_S if isinstance(error, ShuttingDownError) else LINGER_S
                await refuse_unread(error, scope, receive, send, linger_s=linger_s)
                return
            response = error_response(error, scope)
            # The events of a stream have the same envelope. Where a length is announced, the server breaks it off.
            if answer.is_event_stream:
                event = format_sse_event(data_str=bytes(response.body).decode())
                await send({"type": "http.response.body", "body": event})

    async def _admit(self, scope: Scope) -> str | None:
        """The caller, by the name of its key or by its address; None for what anyone may ask for at any time."""
        kind = self._kind_of(route_path(scope))
        if kind in (PathKind.PAGE, PathKind.DOCUMENTATION):
            return None
        name = None if self._keys.is_empty else self._keys.name_of(scope) or self._client_secrets.owner_of(scope)
        if name is not None:
            request_context(HTTPConnection(scope)).key = name
            note(HTTPConnection(scope), key=name)
        if kind is PathKind.METRICS and (name is not None or self._keys.is_empty):
            return None
        # Whoever has no key is counted, too, by address: guessing has its limit.
        caller = caller_of(scope) if name is None else f"key {name}"
        await self._quota.admit(caller)
        if name is None and not self._keys.is_empty:
            raise UnauthorizedError(_WRONG_KEY if offered_keys(scope) else _NO_KEY)
        return caller


class _Answer:
    """What has been sent of a request's answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self.is_event_stream = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            self.is_event_stream = Headers(raw=message["headers"]).get("content-type", "").startswith(_EVENT_STREAM)
        await self._send(message)
