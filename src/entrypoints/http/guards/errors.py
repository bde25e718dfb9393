"""What only HTTP and its sockets can raise: leaves of the domain's errors."""

from ....domain.errors import CallerError


class UploadStalledError(CallerError):
    """An upload of which nothing came for `limit_s`."""

    code = "upload_stalled"

    def __init__(self, *, limit_s: float) -> None:
        super().__init__(f"The upload stalled: no data for {limit_s:g} s.", limit_s=limit_s)


class UploadTooSlowError(CallerError):
    """An upload that came more slowly than `limit_bytes_per_s` on average."""

    code = "upload_too_slow"

    def __init__(self, *, limit_bytes_per_s: float) -> None:
        message = f"The upload is slower than {limit_bytes_per_s:g} bytes per second."
        super().__init__(message, limit_bytes_per_s=limit_bytes_per_s)


class UploadTimeoutError(CallerError):
    """An upload that was not complete after `limit_s`."""

    code = "upload_timeout"

    def __init__(self, *, limit_s: float) -> None:
        super().__init__(f"The upload took longer than {limit_s:g} s.", limit_s=limit_s)


class UnknownModelError(CallerError):
    """The request names a model that this service does not serve."""

    code = "model_not_found"


class UnauthorizedError(CallerError):
    """The request carries no API key, or a wrong one."""

    code = "unauthorized"


class ForbiddenOriginError(CallerError):
    """A web page of an origin that is not allowed tried to connect."""

    code = "forbidden_origin"


class ProtocolError(CallerError):
    """A live message that is not audio in the announced encoding and not a known command."""

    code = "protocol_error"


class FrameTooLargeError(CallerError):
    """A live message of more than `limit_bytes`."""

    code = "frame_too_large"

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(f"A message may be at most {limit_bytes} bytes long.", limit_bytes=limit_bytes)
