"""What the caller hears when something goes wrong: one table, two envelopes."""

import math
import tempfile
from collections.abc import Mapping
from typing import NamedTuple

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ....domain import errors as domain
from ....domain.errors import FaultError, InvalidRequestError, RetryLaterError, ServiceError, shortage_behind
from . import errors as http
from .error_schemas import OpenAIErrorBody
from .request_context import note
from .route_path import route_path

_log = structlog.stdlib.get_logger(__name__)


class ErrorResponse(NamedTuple):
    """How one kind of error looks from the outside."""

    status: int
    close_code: int
    openai_type: str


class UnexpectedError(FaultError):
    """A defect: an exception that no part of the service expected."""

    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("Internal error. The service's log has the details under the request id.")


_CALLER, _SERVER = "invalid_request_error", "server_error"

ERROR_RESPONSES: Mapping[str, ErrorResponse] = {
    domain.InvalidRequestError.code: ErrorResponse(422, 1008, _CALLER),
    domain.EmptyAudioError.code: ErrorResponse(400, 1007, _CALLER),
    domain.UndecodableAudioError.code: ErrorResponse(415, 1003, _CALLER),
    domain.UploadTooLargeError.code: ErrorResponse(413, 1009, _CALLER),
    domain.UrlNotAllowedError.code: ErrorResponse(422, 1008, _CALLER),
    domain.UrlUnreachableError.code: ErrorResponse(422, 1008, _CALLER),
    http.UploadStalledError.code: ErrorResponse(408, 1008, _CALLER),
    http.UploadTooSlowError.code: ErrorResponse(408, 1008, _CALLER),
    http.UploadTimeoutError.code: ErrorResponse(408, 1008, _CALLER),
    domain.SessionIdleError.code: ErrorResponse(408, 1008, _CALLER),
    domain.AudioTooLongError.code: ErrorResponse(413, 1009, _CALLER),
    http.UnknownModelError.code: ErrorResponse(404, 1008, _CALLER),
    http.UnauthorizedError.code: ErrorResponse(401, 1008, "authentication_error"),
    http.UnknownHostError.code: ErrorResponse(421, 1008, _CALLER),
    http.UpgradeRequiredError.code: ErrorResponse(426, 1008, _CALLER),
    http.ForbiddenOriginError.code: ErrorResponse(403, 1008, "permission_error"),
    http.ProtocolError.code: ErrorResponse(400, 1007, _CALLER),
    http.FrameTooLargeError.code: ErrorResponse(413, 1009, _CALLER),
    domain.OverloadedError.code: ErrorResponse(503, 1013, _SERVER),
    domain.RateLimitError.code: ErrorResponse(429, 1013, "rate_limit_error"),
    domain.TooManyStreamsError.code: ErrorResponse(503, 1013, _SERVER),
    domain.ModelNotReadyError.code: ErrorResponse(503, 1013, _SERVER),
    domain.ShuttingDownError.code: ErrorResponse(503, 1001, _SERVER),
    domain.StorageFullError.code: ErrorResponse(507, 1013, _SERVER),
    domain.OutOfResourcesError.code: ErrorResponse(503, 1013, _SERVER),
    domain.ProcessingTimeoutError.code: ErrorResponse(504, 1013, _SERVER),
    domain.DecoderUnavailableError.code: ErrorResponse(500, 1011, _SERVER),
    domain.ModelLoadError.code: ErrorResponse(500, 1011, _SERVER),
    domain.InferenceError.code: ErrorResponse(500, 1011, _SERVER),
    UnexpectedError.code: ErrorResponse(500, 1011, _SERVER),
}
"""Error code -> HTTP status on the seed routes, WebSocket close code, OpenAI error type."""

_NO_USE_TO_RETRY = (domain.ProcessingTimeoutError, domain.UndecodableAudioError, domain.DecoderUnavailableError)
"""OpenAI's clients send again after a 5xx: these would cost the same and fail the same."""

_NO_FILE = "Expected a file, got text. With curl, -F file=@NAME uploads a file; -F file=NAME sends only its name."
"""For what FastAPI says with the names of Python's types; curl without the @ is the usual way to it."""

_NO_RECORDING = (
    "no recording was received. Send multipart/form-data with a part `file` that has a filename, and end the form with "
    "its last boundary; with curl: -F file=@NAME."
)
_FORM_HINTS = (
    ("Part exceeded maximum size", "A recording must be sent as a file: its part needs a filename."),
    ("Field exceeded maximum size", "A recording must be sent as multipart/form-data; with curl: -F file=@NAME."),
    ("Too many fields", "A recording must be sent as multipart/form-data; with curl: -F file=@NAME."),
)
"""What Starlette's parser says of recordings that do not look like files, and what helps."""

_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


def is_openai(path: str) -> bool:
    """Whether the route speaks OpenAI's language."""
    return path == "/v1" or path.startswith("/v1/")


def error_response(error: ServiceError, scope: Scope) -> JSONResponse:
    """The answer to the request of `scope` that failed with `error`; the log line will name its code."""
    connection = HTTPConnection(scope)
    note(connection, code=error.code)
    openai = is_openai(route_path(scope))
    problem = ERROR_RESPONSES[error.code]
    # OpenAI answers a field that cannot be read with 400, and a file that cannot be decoded as well.
    status = 400 if openai and problem.status in (415, 422) else problem.status
    headers: dict[str, str] = {}
    if openai and isinstance(error, _NO_USE_TO_RETRY):
        headers["x-should-retry"] = "false"
    elif isinstance(error, RetryLaterError):
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status == 426:
        headers |= {"upgrade": "websocket", "connection": "Upgrade"}
    if openai:
        return _response(status, openai_error(error).model_dump(), headers)
    return _response(status, error_facts(error), headers)


def error_facts(error: ServiceError) -> dict[str, object]:
    """The error as the service's own routes tell it."""
    details = {name: value for name, value in error.details.items() if value is not None}
    return {"code": error.code, "message": _message(error), **details}


def openai_error(error: ServiceError) -> OpenAIErrorBody:
    """The error as OpenAI's clients read it."""
    param = error.details.get("param")
    if isinstance(error, domain.UndecodableAudioError | domain.EmptyAudioError):
        param = "file"
    return OpenAIErrorBody(
        message=_message(error),
        type=ERROR_RESPONSES[error.code].openai_type,
        param=None if param is None else str(param),
        code=error.code,
    )


def _message(error: ServiceError) -> str:
    if isinstance(error, domain.AudioTooLongError) and error.chunking_helps:
        return f"{error.message} Longer ones are accepted with should_chunk=true."
    return error.message


async def refuse(error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or a WebSocket before it is accepted, with `error`."""
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        await error_response(error, scope)(scope, receive, send)
    else:
        note(HTTPConnection(scope), code=error.code)
        await send({"type": "websocket.close", "code": ERROR_RESPONSES[error.code].close_code, "reason": error.code})


def install_error_handlers(app: FastAPI) -> None:
    """Give every error that a route can raise its envelope."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101
    return error_response(error, request.scope)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:])
    reason = _NO_FILE if "UploadFile" in first["msg"] else first["msg"]
    if first["type"] == "missing" and param == "file":
        reason = _NO_RECORDING
    return error_response(InvalidRequestError(f"{param}: {reason}", param=param), request.scope)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    if isinstance(error.__cause__, ClientDisconnect):
        # FastAPI takes it for a body that cannot be parsed.
        return await _on_client_gone(request, error.__cause__)
    shortage = shortage_behind(error.__cause__)
    if shortage is not None:
        # FastAPI takes it for a body that cannot be parsed, too.
        log_shortage(shortage, error.__cause__)
        return error_response(shortage, request.scope)
    code = _HTTP_CODES.get(error.status_code, InvalidRequestError.code)
    note(request, code=code)
    headers = dict(error.headers or {})
    message = " ".join((error.detail, *(hint for start, hint in _FORM_HINTS if error.detail.startswith(start))))
    if is_openai(route_path(request.scope)):
        body = OpenAIErrorBody(message=message, type=_CALLER, param=None, code=code)
        return _response(error.status_code, body.model_dump(), headers)
    return _response(error.status_code, {"code": code, "message": message}, headers)


def log_shortage(shortage: ServiceError, cause: BaseException | None) -> None:
    """Log what the machine lacks, for its operator."""
    hint = "see `ulimit -n`, and the memory of the machine"
    if isinstance(shortage, domain.StorageFullError):
        hint = f"uploads are kept in TMPDIR, which is {tempfile.gettempdir()}"
    _log.error("out of resources", code=shortage.code, cause=str(cause), hint=hint)


async def _on_client_gone(request: Request, _error: Exception) -> Response:
    # Nobody reads it. 499 is what nginx logs for a client that left.
    note(request, code="client_gone")
    return Response(status_code=499)


def _response(status: int, error: Mapping[str, object], headers: Mapping[str, str]) -> JSONResponse:
    return JSONResponse({"error": error}, status, headers)
