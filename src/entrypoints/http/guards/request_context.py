"""What the one log line of a request or a session will say, gathered while it runs."""

from collections.abc import Mapping

from starlette.requests import HTTPConnection
from starlette.types import Scope

_FACTS = "facts"
_REQUEST_ID = "request_id"


def open_request_context(scope: Scope, request_id: str) -> dict[str, object]:
    """Begin the record of `scope`; what is put into it is logged at the end."""
    facts: dict[str, object] = {}
    state = scope.setdefault("state", {})
    state[_FACTS] = facts
    state[_REQUEST_ID] = request_id
    return facts


def facts_of(scope: Scope) -> Mapping[str, object]:
    """What is known so far of this request or session."""
    facts: Mapping[str, object] = scope["state"][_FACTS]
    return facts


def note(connection: HTTPConnection, **facts: float | str | None) -> None:
    """Add facts to the log line of this request or session."""
    connection.scope["state"][_FACTS].update(facts)


def request_id_of(connection: HTTPConnection) -> str:
    """The id that the answer carries and every log line of the request."""
    request_id: str = connection.scope["state"][_REQUEST_ID]
    return request_id


def key_of(connection: HTTPConnection) -> str | None:
    """Whose key the request carried, by its name; ``None`` where no key is needed."""
    name: str | None = connection.scope["state"][_FACTS].get("key")
    return name
