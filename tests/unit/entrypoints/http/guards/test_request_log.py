import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from parakeet_service.adapters.telemetry.prometheus import PrometheusMetrics
from parakeet_service.entrypoints.http.guards.path_kinds import PathKind
from parakeet_service.entrypoints.http.guards.request_log import RequestLogMiddleware
from parakeet_service.entrypoints.http.guards.upload_limits import UploadLimitMiddleware, UploadPace
from tests.fakes import GatedModel
from tests.unit.entrypoints.world import World, a_settings, pcm, send_raw, started

KEYS = {"api_keys": "first,s3cret"}
FORM = {"content-type": "multipart/form-data; boundary=xyz"}
HEAD = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Bearer ", "Basic s3cret", "s3cret", "Bearer s3cre\xe9"])
@pytest.mark.parametrize("path", ["/transcribe", "/v1/audio/transcriptions", "/config", "/v1/models", "/nowhere"])
async def test_refuses_who_has_no_key(authorization: str, path: str) -> None:
    world = await started(settings=a_settings(**KEYS))
    async with world.client() as client:
        answer = await client.get(path, headers=[(b"authorization", authorization.encode("latin-1"))])
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("authorization", ["Bearer first", "Bearer s3cret", "bearer s3cret"])
async def test_lets_in_who_has_one_of_the_keys(authorization: str) -> None:
    world = await started(settings=a_settings(**KEYS))
    async with world.client(authorization=authorization) as client:
        assert (await client.post("/transcribe", files={"file": pcm(0.4)})).json() == {"text": "This"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json"])
async def test_probes_and_documentation_need_no_key(path: str) -> None:
    async with (await started(settings=a_settings(**KEYS))).client() as client:
        assert (await client.get(path)).status_code == 200


async def test_the_configuration_shows_no_key() -> None:
    async with (await started(settings=a_settings(**KEYS))).client(authorization="Bearer first") as client:
        answer = await client.get("/config")
    assert answer.json()["settings"]["api_keys"] == 2
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("protocols", [(), ("parakeet",), ("parakeet", "key.wrong"), ("s3cret",)])
async def test_refuses_a_websocket_without_a_key(protocols: tuple[str, ...]) -> None:
    world = await started(settings=a_settings(**KEYS))
    async with world.live(subprotocols=protocols) as client:
        message = await client.next()
    assert (message["type"], message["status"]) == ("websocket.http.response.start", 401)


async def test_a_browser_offers_its_key_as_a_subprotocol() -> None:
    world = await started(settings=a_settings(**KEYS))
    async with world.live(subprotocols=["parakeet", "key.s3cret"]) as client:
        assert (await client.accepted())["subprotocol"] == "parakeet"


async def test_a_program_sends_its_key_in_a_header() -> None:
    world = await started(settings=a_settings(**KEYS))
    async with world.live({"authorization": "Bearer s3cret"}) as client:
        assert (await client.accepted())["subprotocol"] is None


async def test_echoes_a_sane_request_id() -> None:
    async with (await started()).client() as client:
        answer = await client.get("/healthz", headers={"x-request-id": "trace-1.2:3"})
    assert answer.headers["x-request-id"] == "trace-1.2:3"


@pytest.mark.parametrize("offered", ["", "with space", "x" * 129, "line\tbreak"])
async def test_makes_a_request_id_where_there_is_no_sane_one(offered: str) -> None:
    async with (await started()).client() as client:
        answers = [await client.get("/healthz", headers={"x-request-id": offered}) for _ in range(2)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 2
    assert offered not in ids


async def test_the_line_names_the_template_of_the_route_and_the_error() -> None:
    async with (await started()).client() as client:
        with capture_logs() as lines:
            await client.get("/v1/models/some/thing")
    assert len(lines) == 1
    assert lines[0]["route"] == "/v1/models/{model_id:path}"
    assert (lines[0]["status"], lines[0]["code"]) == (404, "model_not_found")


async def test_probes_are_logged_for_debugging_only() -> None:
    async with (await started()).client() as client:
        with capture_logs() as lines:
            await client.get("/healthz")
    assert [line["log_level"] for line in lines] == ["debug"]


async def test_an_upload_that_says_it_is_too_large_is_refused_before_it_is_read() -> None:
    world = await started(settings=a_settings(max_upload_bytes=1000))
    incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    answering = asyncio.create_task(send_raw(world.app, "/transcribe", incoming, FORM | {"content-length": "1001"}))
    await incoming.put({"type": "http.disconnect"})
    answer = await answering
    assert answer[0]["status"] == 413
    assert dict(answer[0]["headers"])[b"connection"] == b"close"
    assert b'"limit_bytes":1000' in answer[1]["body"]


@pytest.mark.parametrize("path", ["/transcribe", "/v1/audio/transcriptions"])
async def test_an_upload_is_stopped_where_it_becomes_too_large(path: str) -> None:
    world = await started(settings=a_settings(max_upload_bytes=100_000))
    pieces = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pieces
        yield HEAD
        while pieces < 1000:
            pieces += 1
            if pieces == 11:
                # From here on the answer is on its way, and nothing is kept.
                assert world.decoder.opened == 0
            yield b"x" * 10_000

    async with world.client(**FORM) as client:
        with capture_logs() as lines:
            answer = await client.post(path, content=endless())
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "upload_too_large"
    assert (lines[-1]["status"], lines[-1]["code"]) == (413, "upload_too_large")
    assert world.decoder.opened == 0


async def test_an_upload_of_just_the_limit_is_taken() -> None:
    async with World().client(**FORM) as client:
        request = client.build_request("POST", "/transcribe", content=HEAD + pcm(0.4) + b"\r\n--xyz--\r\n")
    world = await started(settings=a_settings(max_upload_bytes=len(request.content)))
    async with world.client() as client:
        assert (await client.send(request)).status_code == 200
    world = await started(settings=a_settings(max_upload_bytes=len(request.content) - 1))
    async with world.client() as client:
        assert (await client.send(request)).status_code == 413


@pytest.mark.leaping_clock
async def test_a_refused_client_that_goes_on_sending_is_cut_off() -> None:
    async def app(_scope: object, receive: Any, _send: object) -> None:
        while (await receive()).get("more_body"):
            pass

    incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    await incoming.put({"type": "http.request", "body": b"12345", "more_body": True})
    metrics = PrometheusMetrics()
    limited: Any = RequestLogMiddleware(
        UploadLimitMiddleware(
            app,
            limit_bytes=4,
            most=1,
            pace=UploadPace(longest_pause_s=60, least_bytes_per_s=0, longest_s=60),
            check_ready=lambda: None,
            metrics=metrics,
        ),
        metrics=metrics,
        known_paths=(),
        kind_of=lambda _: PathKind.API,
    )
    answer = await send_raw(limited, "/transcribe", incoming, {"transfer-encoding": "chunked"})
    assert [message["type"] for message in answer] == ["http.response.start", *["http.response.body"] * 2]
    assert [message.get("more_body", False) for message in answer[1:]] == [True, False]


async def test_pages_of_allowed_origins_may_read_answers_and_errors() -> None:
    settings = a_settings(allowed_origins="https://app.example", **KEYS)
    async with (await started(settings=settings)).client(origin="https://app.example") as client:
        refused = await client.get("/config")
        asked = await client.options(
            "/transcribe",
            headers={"access-control-request-method": "POST", "access-control-request-headers": "authorization"},
        )
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example"
    assert (asked.status_code, asked.headers["access-control-allow-headers"]) == (200, "authorization")


async def test_pages_of_other_origins_may_not_read_answers() -> None:
    settings = a_settings(allowed_origins="https://app.example")
    async with (await started(settings=settings)).client(origin="https://evil.example") as client:
        assert "access-control-allow-origin" not in (await client.get("/healthz")).headers


async def test_a_slow_request_does_not_hold_up_the_probes() -> None:
    model = GatedModel()
    world = await started(model=model)
    async with world.client() as client:
        slow = asyncio.create_task(client.post("/transcribe", files={"file": pcm(0.4)}))
        await model.at_work.wait()
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert not slow.done()
        model.gate.set()
        assert (await slow).status_code == 200
