import errno
import inspect

import pytest

from parakeet_service.domain import errors
from parakeet_service.domain.errors import (
    AudioTooLongError,
    InvalidRequestError,
    OverloadedError,
    ProcessingTimeoutError,
    ServiceError,
    UploadTooLargeError,
)

_CODES = {
    "InvalidRequestError": "invalid_request",
    "EmptyAudioError": "empty_audio",
    "UndecodableAudioError": "undecodable_audio",
    "UploadTooLargeError": "upload_too_large",
    "UrlNotAllowedError": "url_not_allowed",
    "UrlUnreachableError": "url_unreachable",
    "SessionIdleError": "session_idle",
    "AudioTooLongError": "audio_too_long",
    "OverloadedError": "overloaded",
    "RateLimitError": "rate_limit_exceeded",
    "TooManyStreamsError": "too_many_streams",
    "ModelNotReadyError": "model_not_ready",
    "ShuttingDownError": "shutting_down",
    "StorageFullError": "storage_full",
    "OutOfResourcesError": "out_of_resources",
    "ProcessingTimeoutError": "processing_timeout",
    "DecoderUnavailableError": "decoder_unavailable",
    "ModelLoadError": "model_load_failed",
    "InferenceError": "inference_failed",
}
"""Released: none of them may ever change."""


def _classes() -> dict[str, type[ServiceError]]:
    found = dict(inspect.getmembers(errors, inspect.isclass))
    return {name: one for name, one in found.items() if issubclass(one, ServiceError)}


def _drawn() -> dict[str, str | None]:
    """Each class in the docstring's tree, with its parent."""
    path: list[str] = []
    parents: dict[str, str | None] = {}
    for line in (inspect.getdoc(errors) or "").splitlines():
        bare = line.lstrip("│├└─ ")
        name = bare.split(" ")[0]
        if name.endswith("Error"):
            depth = (len(line) - len(bare)) // 4
            path[depth:] = [name]
            parents[name] = path[depth - 1] if depth else None
    return parents


def test_the_tree_is_drawn_as_it_is() -> None:
    actual = {name: None if one is ServiceError else one.__mro__[1].__name__ for name, one in _classes().items()}

    assert _drawn() == actual


def test_each_leaf_keeps_its_own_code() -> None:
    leaves = {name: one for name, one in _classes().items() if not one.__subclasses__()}

    assert {name: one.code for name, one in leaves.items()} == _CODES
    assert len(set(_CODES.values())) == len(_CODES)


@pytest.mark.parametrize(
    ("error", "message", "details"),
    [
        (InvalidRequestError("No file.", param="file"), "No file.", {"param": "file"}),
        (InvalidRequestError("Bad."), "Bad.", {"param": None}),
        (UploadTooLargeError(limit_bytes=9), "The upload is larger than 9 bytes.", {"limit_bytes": 9}),
        (
            AudioTooLongError(limit_s=30, duration_s=30.5),
            "The recording is longer than 30 s (at least 30.5 s).",
            {"limit_s": 30, "duration_s": 30.5},
        ),
        (OverloadedError("Busy.", retry_after_s=0.5), "Busy.", {"retry_after_s": 0.5}),
        (ProcessingTimeoutError(limit_s=120), "Processing took longer than 120 s and was stopped.", {"limit_s": 120}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ServiceError) else "",
)
def test_says_what_and_how_much(error: ServiceError, message: str, details: dict[str, object]) -> None:
    assert (str(error), error.message, error.details) == (message, message, details)


def test_tells_when_to_come_back() -> None:
    assert OverloadedError("Busy.").retry_after_s == 1
    assert OverloadedError("Busy.", retry_after_s=7).retry_after_s == 7
    assert ProcessingTimeoutError(limit_s=120).retry_after_s == 120


def test_an_entrypoint_says_a_parameter_in_its_own_words() -> None:
    error = InvalidRequestError("left_s, chunk_s and right_s may add up to 20 seconds.", param="left_s")
    renamed = error.renamed({"left_s": "left_context_s", "right_s": "right_context_s"})
    assert renamed.message == "left_context_s, chunk_s and right_context_s may add up to 20 seconds."
    assert renamed.details == {"param": "left_context_s"}
    assert InvalidRequestError("Bad chunk_s.").renamed({"chunk_s": "STREAM_CHUNK"}).message == "Bad STREAM_CHUNK."
    assert InvalidRequestError("Bad chunk_s.", param="chunk_s").renamed({}).details == {"param": "chunk_s"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errors.StorageFullError),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), errors.StorageFullError),
        (OSError(errno.EMFILE, "Too many open files"), errors.OutOfResourcesError),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), errors.OutOfResourcesError),
        (MemoryError(), errors.OutOfResourcesError),
        (OSError(errno.ENOENT, "No such file"), type(None)),
        (ValueError(), type(None)),
    ],
)
def test_what_the_machine_lacks_is_found_behind_an_error(error: Exception, kind: type) -> None:
    behind = RuntimeError("It failed.")
    behind.__cause__ = error
    assert type(errors.shortage_behind(error)) is kind
    assert type(errors.shortage_behind(behind)) is kind


def test_an_error_does_not_repeat_a_long_value() -> None:
    error = errors.InvalidRequestError(f"language: {'x' * 900_000} is none", param="y" * 900_000)
    assert len(error.message) < 1000
    assert error.message.startswith("language: x")
    assert error.message.endswith("x is none")
    assert len(str(error.details["param"])) < 1000
    assert len(str(error)) < 1000
