"""Who may come in. Pure ASGI."""

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from ....application.drain import Drain
from ....application.ports.quota import Quota
from ....domain.errors import ServiceError
from .client_secrets import ClientSecrets
from .errors import UnauthorizedError
from .keys import KeyRing, address_of
from .path_kinds import KindOf, PathKind
from .request_context import note, request_context
from .upload_limits import refuse_unread


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
        if scope["type"] == "lifespan" or self._kind_of(scope["path"]) is PathKind.PROBE:
            await self._app(scope, receive, send)
            return
        try:
            request_context(HTTPConnection(scope)).caller = await self._admit(scope)
            self._drain.check_open()
        except ServiceError as error:
            await refuse_unread(error, scope, receive, send)
            return
        with self._drain.work():
            await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> str | None:
        """The caller, by the name of its key or by its address; None for what anyone may ask for at any time."""
        kind = self._kind_of(scope["path"])
        if kind in (PathKind.PAGE, PathKind.DOCUMENTATION):
            return None
        name = None if self._keys.is_empty else self._keys.name_of(scope) or self._client_secrets.owner_of(scope)
        if name is not None:
            request_context(HTTPConnection(scope)).key = name
            note(HTTPConnection(scope), key=name)
            if kind is PathKind.METRICS:
                return None
        # Whoever has no key is counted, too, by address: guessing has its limit.
        caller = f"address {address_of(scope)}" if name is None else f"key {name}"
        await self._quota.admit(caller)
        if name is None and not self._keys.is_empty:
            raise UnauthorizedError("An API key is required: Authorization: Bearer <key>.")
        return caller
