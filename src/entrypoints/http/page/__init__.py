"""`GET /`: a page to speak to, or to drop a recording on; its files lie beside this module."""

import hashlib
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

_HERE = Path(__file__).parent
_PAGE, _ASSETS = "/", "/page/"
_KINDS = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        # The WebSocket, too: 'self' means ws and wss of the same host as well (W3C CSP Level 3, section 6.7.2.8).
        "connect-src 'self'",
        "media-src blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = MappingProxyType(
    {
        "content-security-policy": _POLICY,
        "permissions-policy": "microphone=(self), camera=(), geolocation=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        # Kept, but asked about each time: a new version of the service is seen at once, and whole.
        "cache-control": "no-cache",
    }
)


def is_page(path: str) -> bool:
    """Whether `path` is the page's or one of its files', which anyone may have: they say nothing of the service."""
    return path == _PAGE or path.startswith(_ASSETS)


def router() -> APIRouter:
    """The routes for the page and its files, which are read once, here."""
    files = {path.name: _File(path) for path in _HERE.iterdir() if path.suffix in _KINDS}

    async def page(request: Request) -> Response:
        return files["index.html"].answer(request)

    async def asset(request: Request, name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "Not Found")
        return files[name].answer(request)

    routes = APIRouter(include_in_schema=False)
    routes.add_api_route(_PAGE, page, methods=["GET", "HEAD"])
    routes.add_api_route(_ASSETS + "{name}", asset, methods=["GET", "HEAD"])
    return routes


class _File:
    """One file of the page, held in memory."""

    def __init__(self, path: Path) -> None:
        body = path.read_bytes()
        self._body = body
        self._etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        self._headers = {**_HEADERS, "content-type": _KINDS[path.suffix], "etag": self._etag}

    def answer(self, request: Request) -> Response:
        """The file, or that the browser has it already; servers drop the body for HEAD."""
        offered = request.headers.get("if-none-match", "")
        if self._etag in (tag.strip().removeprefix("W/") for tag in offered.split(",")):
            return Response(status_code=304, headers=self._headers)
        return Response(self._body, headers=self._headers)
