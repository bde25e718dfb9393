import pytest
from starlette.types import Message, Scope

from parakeet_service.domain import errors
from parakeet_service.domain.errors import CallerError, FaultError, RetryLaterError, ServiceError
from parakeet_service.entrypoints.http.guards import errors as http_errors
from parakeet_service.entrypoints.http.guards.error_responses import (
    ERROR_RESPONSES,
    UnexpectedError,
    error_response,
    refuse,
)
from parakeet_service.entrypoints.http.guards.errors import UnauthorizedError
from parakeet_service.entrypoints.http.guards.request_context import open_request_context


def leaves(kind: type[ServiceError]) -> list[type[ServiceError]]:
    children = kind.__subclasses__()
    return [leaf for child in children for leaf in leaves(child)] if children else [kind]


LEAVES = [leaf for leaf in leaves(ServiceError) if leaf.__module__ in {errors.__name__, http_errors.__name__}]


def test_every_error_is_mapped_and_nothing_else() -> None:
    assert set(ERROR_RESPONSES) == {leaf.code for leaf in LEAVES} | {UnexpectedError.code}


@pytest.mark.parametrize("leaf", LEAVES)
def test_who_must_act_decides_the_kind_of_status(leaf: type[ServiceError]) -> None:
    problem = ERROR_RESPONSES[leaf.code]
    if issubclass(leaf, CallerError):
        assert 400 <= problem.status < 500
    elif issubclass(leaf, RetryLaterError):
        assert problem.status in {429, 503, 504}
    else:
        assert issubclass(leaf, FaultError)
        assert (problem.status, problem.close_code) == (500, 1011)


def a_scope(kind: str, **more: object) -> Scope:
    scope: Scope = {"type": kind, "path": "/ws", "headers": [], **more}
    open_request_context(scope, "1")
    return scope


def test_details_are_shown_and_absent_ones_are_absent() -> None:
    scope = a_scope("http")
    body = error_response(errors.InvalidRequestError("No."), scope).body
    assert body == b'{"error":{"code":"invalid_request","message":"No."}}'


async def test_a_websocket_is_refused_by_its_close_code_where_no_answer_can_be_sent() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    await refuse(UnauthorizedError("No."), a_scope("websocket"), receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "unauthorized"}]
