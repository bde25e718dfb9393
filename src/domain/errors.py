"""What the core and the adapters raise, by who must act; what only a transport can raise is in its entrypoint.

ServiceError
├── CallerError              the caller changes the request
│   ├── InvalidRequestError      a field is missing or cannot be read
│   ├── EmptyAudioError          there are no bytes, or no samples, in the recording
│   ├── UndecodableAudioError    no decoder can read the bytes
│   ├── SessionIdleError         a live client said nothing at all
│   ├── UploadTooLargeError      more bytes than the service takes
│   ├── UrlNotAllowedError       the service opens no such URL
│   ├── UrlUnreachableError      nothing usable came from the URL
│   └── AudioTooLongError        more seconds than the service takes
├── RetryLaterError          the caller sends the same again, later
│   ├── OverloadedError          the queue is full
│   ├── RateLimitError           this caller has had its share
│   ├── TooManyStreamsError      every live stream is taken
│   ├── ModelNotReadyError       the model is still loading
│   ├── ShuttingDownError        the service is shutting down
│   ├── StorageFullError         a disk of the service is full
│   ├── OutOfResourcesError      the machine has no descriptors, processes or memory left
│   └── ProcessingTimeoutError   the work took longer than it may
└── FaultError               we fix it
    ├── DecoderUnavailableError  the decoder is missing or died
    ├── ModelLoadError           the model cannot be found or loaded
    └── InferenceError           the model failed on good audio
"""

import errno
import re
from collections.abc import Mapping
from typing import ClassVar, Literal

_LONGEST_TEXT = 1000


def _shortened(text: str) -> str:
    """The text, or the two ends of one so long that it must be quoting what the caller sent."""
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[: _LONGEST_TEXT // 2]} ... {text[-_LONGEST_TEXT // 4 :]}"


class ServiceError(Exception):
    """A failure with a stable `code` and a message that may be shown to the caller.

    Attributes:
        code: Machine-readable name; never changes once released.
        message: One sentence for a person.
        details: Further facts for the caller, as JSON-ready values, such as the limit that was passed.
    """

    code: ClassVar[str]

    def __init__(self, message: str, **details: str | float | None) -> None:
        message = _shortened(message)
        super().__init__(message)
        self.message = message
        self.details = {name: _shortened(value) if isinstance(value, str) else value for name, value in details.items()}


class CallerError(ServiceError):
    """The request itself is at fault: sending it again cannot help."""


class InvalidRequestError(CallerError):
    """A parameter is missing or cannot be used; `details["param"]` names it, as the one who raises it calls it."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, param=param)

    def renamed(self, names: Mapping[str, str]) -> "InvalidRequestError":
        """The same error in an entrypoint's words: `names` has its name for each parameter of ours that has another."""
        param = self.details["param"]
        message = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), self.message)
        return InvalidRequestError(message, param=None if param is None else names.get(str(param), str(param)))


class EmptyAudioError(CallerError):
    """The recording has no bytes, or decodes to no samples."""

    code = "empty_audio"


class UndecodableAudioError(CallerError):
    """No decoder can read the bytes: not audio, truncated, or a container that refers elsewhere."""

    code = "undecodable_audio"


class SessionIdleError(CallerError):
    """A live session in which nothing came for `limit_s`, not even a sign of life."""

    code = "session_idle"

    def __init__(self, *, limit_s: float) -> None:
        super().__init__(f"The session was idle for {limit_s:g} s; send audio or keepalive messages.", limit_s=limit_s)


class UploadTooLargeError(CallerError):
    """More bytes than `limit_bytes` were sent."""

    code = "upload_too_large"

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(f"The upload is larger than {limit_bytes} bytes.", limit_bytes=limit_bytes)


class UrlNotAllowedError(CallerError):
    """A URL that the service does not open: malformed, of another scheme, or not on the public internet."""

    code = "url_not_allowed"


class UrlUnreachableError(CallerError):
    """A URL that gave nothing usable: its host is unknown, silent or slow, or answered with something else.

    The other side is at fault, perhaps for a while only.
    """

    code = "url_unreachable"


class AudioTooLongError(CallerError):
    """The recording is longer than `limit_s`; `duration_s` is what was seen of it when that became clear."""

    code = "audio_too_long"

    def __init__(self, *, limit_s: float, duration_s: float, chunking_helps: bool = False) -> None:
        message = f"The recording is longer than {limit_s:g} s (at least {duration_s:g} s)."
        super().__init__(message, limit_s=limit_s, duration_s=duration_s)
        self.chunking_helps = chunking_helps
        """Whether a longer one is accepted in chunks."""


class RetryLaterError(ServiceError):
    """The same request may succeed later; `retry_after_s` is our best guess of when."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.retry_after_s = retry_after_s


class OverloadedError(RetryLaterError):
    """More work waits than the service may keep."""

    code = "overloaded"


class RateLimitError(RetryLaterError):
    """The caller has asked for as much as it may in a while; the others have not."""

    code = "rate_limit_exceeded"


class TooManyStreamsError(RetryLaterError):
    """Every live stream that the service may hold is taken."""

    code = "too_many_streams"


class ModelNotReadyError(RetryLaterError):
    """The model is still being fetched, loaded or warmed up.

    With a `state` it is being downloaded or built, and `done_bytes` of `total_bytes`, if that is known, are done.
    """

    code = "model_not_ready"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float = 1.0,
        state: Literal["downloading", "building"] | None = None,
        done_bytes: int = 0,
        total_bytes: int | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        if state is not None:
            self.details.update(state=state)
        if total_bytes is not None:
            self.details.update(done_bytes=done_bytes, total_bytes=total_bytes)


class ShuttingDownError(RetryLaterError):
    """The service is finishing what runs and takes nothing new."""

    code = "shutting_down"


class StorageFullError(RetryLaterError):
    """A disk of the service, or somebody's share of it, is full."""

    code = "storage_full"


class OutOfResourcesError(RetryLaterError):
    """The machine has no file descriptors, processes or memory left for this request."""

    code = "out_of_resources"


class ProcessingTimeoutError(RetryLaterError):
    """The work took longer than `limit_s` and was stopped."""

    code = "processing_timeout"

    def __init__(self, *, limit_s: float) -> None:
        super().__init__(f"Processing took longer than {limit_s:g} s and was stopped.", retry_after_s=limit_s)
        self.details = {"limit_s": limit_s}


class FaultError(ServiceError):
    """The service is at fault. The message names the part, never its inner output."""


class DecoderUnavailableError(FaultError):
    """The audio decoder is not installed, could not be started, or died."""

    code = "decoder_unavailable"


class ModelLoadError(FaultError):
    """The model cannot be found, fetched or loaded."""

    code = "model_load_failed"


class InferenceError(FaultError):
    """The model failed on audio that was decoded well."""

    code = "inference_failed"


_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS})


def shortage_behind(error: BaseException | None) -> StorageFullError | OutOfResourcesError | None:
    """What the machine lacks, if that is why `error` was raised: the same request may succeed later."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            return StorageFullError("The service has no disk space left for this request.", retry_after_s=10.0)
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _RESOURCES):
            return OutOfResourcesError("The service has no resources left for this request.", retry_after_s=5.0)
        error = error.__cause__
    return None
