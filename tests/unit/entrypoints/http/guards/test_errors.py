import inspect

import pytest

from parakeet_service.domain.errors import CallerError, ServiceError
from parakeet_service.entrypoints.http.guards import errors
from parakeet_service.entrypoints.http.guards.errors import (
    FrameTooLargeError,
    UploadStalledError,
    UploadTimeoutError,
    UploadTooSlowError,
)

_CODES = {
    "UploadStalledError": "upload_stalled",
    "UploadTooSlowError": "upload_too_slow",
    "UploadTimeoutError": "upload_timeout",
    "UnknownModelError": "model_not_found",
    "UnauthorizedError": "unauthorized",
    "ForbiddenOriginError": "forbidden_origin",
    "ProtocolError": "protocol_error",
    "FrameTooLargeError": "frame_too_large",
}
"""Released: none of them may ever change."""


def test_each_keeps_its_own_code_and_is_the_callers() -> None:
    leaves = {
        name: one
        for name, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, ServiceError) and one.__module__ == errors.__name__
    }
    assert {name: one.code for name, one in leaves.items()} == _CODES
    assert all(issubclass(one, CallerError) for one in leaves.values())


@pytest.mark.parametrize(
    ("error", "details"),
    [
        (UploadStalledError(limit_s=9), {"limit_s": 9}),
        (UploadTimeoutError(limit_s=9), {"limit_s": 9}),
        (UploadTooSlowError(limit_bytes_per_s=9), {"limit_bytes_per_s": 9}),
        (FrameTooLargeError(limit_bytes=9), {"limit_bytes": 9}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_says_how_much_is_allowed(error: ServiceError, details: dict[str, object]) -> None:
    assert error.details == details
    assert "9" in error.message
