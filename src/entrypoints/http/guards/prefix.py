"""The prefix under which a proxy shows the service. Pure ASGI."""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

_SANE_PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)


class PrefixMiddleware:
    """Tells the routes the prefix, whether or not the proxy has taken it off the path.

    The prefix is the one that is configured, or else what the proxy says in ``X-Forwarded-Prefix``. It decides nothing
    but links: what anyone writes there opens no door.
    """

    def __init__(self, app: ASGIApp, *, prefix: str) -> None:
        """Surround `app`; `prefix` is empty, or ``/a`` or ``/a/b``."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "lifespan":
            scope = self._prefixed(scope)
        await self._app(scope, receive, send)

    def _prefixed(self, scope: Scope) -> Scope:
        given: str = scope.get("root_path", "")
        path: str = scope["path"]
        if given:
            # uvicorn's own --root-path: it stands before every path already, twice if the proxy left it there.
            doubled = given + given
            if path == doubled or path.startswith(f"{doubled}/"):
                return {**scope, "path": path.removeprefix(given)}
            return scope
        prefix = self._prefix or self._forwarded(scope)
        if not prefix:
            return scope
        # As the ASGI specification has it: `path` has the prefix in it.
        is_whole = path == prefix or path.startswith(f"{prefix}/")
        return {**scope, "root_path": prefix, "path": path if is_whole else prefix + path}

    @staticmethod
    def _forwarded(scope: Scope) -> str:
        prefix = Headers(scope=scope).get("x-forwarded-prefix", "").strip().rstrip("/")
        return prefix if _SANE_PREFIX.fullmatch(prefix) else ""
