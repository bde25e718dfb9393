"""What only this protocol and its sockets can raise: leaves of the domain's errors."""

from ...domain.errors import CallerError, FaultError, RetryLaterError


class ProtocolError(CallerError):
    """An event that cannot be read, or that has no place where it came."""

    code = "protocol_error"


class TooManyConnectionsError(RetryLaterError):
    """The limit of connections is reached."""

    code = "too_many_connections"


class UnexpectedError(FaultError):
    """A defect: an exception that no part of the service expected."""

    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("Internal error. The service's log has the details.")


class CannotListenError(FaultError):
    """The port or the socket cannot be bound, or not be announced."""

    code = "cannot_listen"


class ClientGoneError(ConnectionError):
    """The client has closed the connection; no error of the service's."""
