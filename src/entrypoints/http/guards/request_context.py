"""What is known of a request or session while it runs: its id, who asks, and what its log line will say."""

from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.types import Scope

_CONTEXT = "request_context"


@dataclass(slots=True)
class RequestContext:
    """One request or session.

    Attributes:
        request_id: On the answer, and on every log line of the request.
        caller: Whom the use-cases charge; ``None`` before access was granted, and where nothing is counted.
        key: Name of the API key that was shown; ``None`` where no key is needed.
        facts: For the log line at the end.
    """

    request_id: str
    caller: str | None = None
    key: str | None = None
    facts: dict[str, object] = field(default_factory=dict[str, object])


def open_request_context(scope: Scope, request_id: str) -> RequestContext:
    """Begin the context of `scope`."""
    context = RequestContext(request_id)
    scope.setdefault("state", {})[_CONTEXT] = context
    return context


def request_context(connection: HTTPConnection) -> RequestContext:
    """The context of this request or session."""
    context: RequestContext = connection.scope["state"][_CONTEXT]
    return context


def note(connection: HTTPConnection, **facts: float | str | None) -> None:
    """Add facts to the log line of this request or session."""
    request_context(connection).facts.update(facts)
