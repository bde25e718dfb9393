"""What the routes that take a recording have in common."""

import re
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator
from typing import Any, TypeVar

from fastapi.dependencies.models import Dependant
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from ....application.run_unless import run_unless

T = TypeVar("T")

_PIECE_BYTES = 1 << 18

_PROBLEMS = {
    400: "The recording is empty, or the form is malformed",
    401: "No API key, or a wrong one",
    404: "The model is not available",
    408: "The upload stalled, or was too slow",
    413: "Too many bytes or seconds; the limit is in the body",
    415: "Not audio, or damaged",
    421: "Without `API_KEYS`: a host name that the service is not known by",
    422: "A field is missing or invalid",
    429: "Rate limit exceeded; `Retry-After` says when to retry",
    500: "A fault of the service",
    503: "Not ready, overloaded, or shutting down; `Retry-After` says when to retry",
    504: "Processing took too long and was stopped",
    507: "The disk of the service is full; `Retry-After` says when to retry",
}


def documented_errors(envelope: type[BaseModel], *, without: Collection[int]) -> dict[int | str, dict[str, Any]]:
    """For the documentation: what a route with an upload may answer; `without` are those of others."""
    return {
        status: {"model": envelope, "description": description}
        for status, description in _PROBLEMS.items()
        if status not in without
    }


IGNORED_HEADER = "x-ignored-parameters"
"""Names the parameters of a request that were taken but had no effect, separated by commas."""
_MOST_UNKNOWN = 10
_LONGEST_NAME = 40


async def unknown_fields(request: Request) -> tuple[str, ...]:
    """The fields of the form that the route does not know, as they may stand in a header: most of them are misspelt."""
    known = set(_field_names(request.scope["route"].dependant))
    unknown = dict.fromkeys(name for name in await request.form() if name not in known)
    return tuple(_UNSAFE.sub("?", name[:_LONGEST_NAME]) for name in unknown)[:_MOST_UNKNOWN]


def _field_names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.body_params)
    for one in dependant.dependencies:
        yield from _field_names(one)


_UNSAFE = re.compile(r"[^\w.\[\]-]", re.ASCII)


async def pieces_of(file: UploadFile) -> AsyncIterator[bytes]:
    """The bytes of an upload, 256 KiB at a time: larger ones lie in a file, and each piece goes through a thread."""
    while piece := await file.read(_PIECE_BYTES):
        yield piece


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives, if the client waits for it.

    Raises:
        ClientDisconnect: It left; `work` was cancelled, and what it held is free.
    """
    result = await run_unless(_left(request), work)
    if result is None:
        raise ClientDisconnect
    return result


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
