"""A full disk, and descriptors that are used up, are the service's trouble: retryable, and named in its log."""

import errno
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from structlog.testing import capture_logs

from parakeet_service.adapters.telemetry.prometheus import PrometheusMetrics
from parakeet_service.entrypoints.http.guards.error_responses import install_error_handlers
from parakeet_service.entrypoints.http.guards.path_kinds import PathKind
from parakeet_service.entrypoints.http.guards.request_log import RequestLogMiddleware
from tests.fakes import FailingModel
from tests.unit.entrypoints.http.recordings.test_routes import post
from tests.unit.entrypoints.world import pcm, started

FULL = OSError(errno.ENOSPC, "No space left on device")
NO_DESCRIPTORS = OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("error", "status", "code"), [(FULL, 507, "storage_full"), (NO_DESCRIPTORS, 503, "out_of_resources")]
)
@pytest.mark.parametrize("path", ["/transcribe", "/v1/audio/transcriptions"])
async def test_whatever_meets_it(path: str, error: OSError, status: int, code: str) -> None:
    world = await started(model=FailingModel(error))
    with capture_logs() as lines:
        answer = await post(world, pcm(1), path, model="whisper-1")
    expect(answer, lines, error, status=status, code=code)


async def test_while_a_form_is_received() -> None:
    app = FastAPI()
    install_error_handlers(app)

    async def form() -> None:
        # As FastAPI does with all that its parser raises.
        raise HTTPException(400, "There was an error parsing the body") from FULL

    app.add_api_route("/transcribe", form, methods=["POST"])
    app.add_middleware(
        RequestLogMiddleware, metrics=PrometheusMetrics(), known_paths=(), kind_of=lambda _: PathKind.API
    )
    transport = httpx2.ASGITransport(app)
    with capture_logs() as lines:
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
            answer = await client.post("/transcribe")
    expect(answer, lines, FULL, status=507, code="storage_full")


def expect(answer: httpx2.Response, lines: list[Any], error: OSError, *, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert int(answer.headers["retry-after"]) > 0
    assert "x-should-retry" not in answer.headers
    (line,) = (line for line in lines if line["log_level"] == "error")
    assert line["cause"] == str(error)
    assert line["hint"]
