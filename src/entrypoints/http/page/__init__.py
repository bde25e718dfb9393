"""`GET /`: a page to speak to, or to drop a recording on; browsers get the files in `static/` as they are."""

import hashlib
import os
from functools import cache
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter, Request
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, PathLike, StaticFiles
from starlette.types import Scope

_PAGE, _ASSETS = "/", "/page/"
# What Python guesses depends on the machine.
_TYPES = MappingProxyType(
    {
        ".html": "text/html",
        ".css": "text/css",
        ".js": "text/javascript",
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
    """The routes for the page and its files."""
    # Some installers link each file to their cache, outside the directory.
    files = _PageFiles(directory=Path(__file__).parent / "static", follow_symlink=True)

    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    async def asset(request: Request, name: str) -> Response:
        return await files.get_response(name, request.scope)

    routes = APIRouter(include_in_schema=False)
    routes.add_api_route(_PAGE, page, methods=["GET", "HEAD"])
    routes.add_api_route(_ASSETS + "{name}", asset, methods=["GET", "HEAD"])
    return routes


class _PageFiles(StaticFiles):
    """The page's files, with their headers."""

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file, or that the browser has it already."""
        path = Path(full_path)
        response = FileResponse(
            path,
            status_code=status_code,
            headers={**_HEADERS, "etag": _etag(path, stat_result.st_mtime_ns)},
            media_type=_TYPES.get(path.suffix),
            stat_result=stat_result,
        )
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response


@cache
def _etag(path: Path, _mtime_ns: int) -> str:
    # Starlette's own is made of date and size, and packagers set all dates to the same: an old file could stay.
    return f'"{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}"'
