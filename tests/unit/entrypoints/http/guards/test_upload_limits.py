import asyncio
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from structlog.testing import capture_logs

from parakeet_service.adapters.telemetry.prometheus import PrometheusMetrics
from parakeet_service.application.ports.speech_model import ModelDescription
from parakeet_service.entrypoints.http.guards.path_kinds import PathKind
from parakeet_service.entrypoints.http.guards.request_log import RequestLogMiddleware
from parakeet_service.entrypoints.http.guards.upload_limits import UploadLimitMiddleware, UploadPace
from tests.fakes import GatedModel
from tests.unit.entrypoints.http.recordings.test_routes import FORM, form_body
from tests.unit.entrypoints.world import World, a_settings, pcm, send_raw, started

Incoming: TypeAlias = asyncio.Queue[MutableMapping[str, Any]]
UPLOADS = ["/transcribe", "/v1/audio/transcriptions"]


def begun(data: bytes) -> Incoming:
    """A body that has only begun to come."""
    incoming: Incoming = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": data, "more_body": True})
    return incoming


async def taken(incoming: Incoming) -> None:
    """Wait until the application wants more than has come."""
    while not incoming.empty():
        await asyncio.sleep(0)


def gauge(world: World, state: str) -> float:
    body, _ = world.metrics.exposition("")
    (line,) = [line for line in body.decode().splitlines() if line.startswith(f'parakeet_uploads{{state="{state}"}}')]
    return float(line.split()[1])


def status_of(answer: list[MutableMapping[str, Any]]) -> tuple[int, bytes]:
    return answer[0]["status"], answer[1]["body"]


@pytest.mark.parametrize("path", UPLOADS)
async def test_who_finds_no_place_is_turned_away_unread(path: str) -> None:
    model = GatedModel()
    world = await started(model=model, settings=a_settings(max_uploads=1))
    async with world.client() as client:
        first = asyncio.create_task(client.post("/transcribe", files={"file": pcm(0.4)}))
        await model.at_work.wait()
        assert (gauge(world, "receiving"), gauge(world, "answering")) == (0, 1)
        unread: Incoming = asyncio.Queue()
        unread.put_nowait({"type": "http.disconnect"})
        answer = await send_raw(world.app, path, unread, FORM | {"content-length": "1000000"})
        status, body = status_of(answer)
        assert (status, dict(answer[0]["headers"])[b"retry-after"]) == (503, b"5")
        assert b'"code":"overloaded"' in body
        assert (b'"type":"server_error"' in body) == path.startswith("/v1/")
        model.gate.set()
        assert (await first).status_code == 200
        assert (await client.post("/transcribe", files={"file": pcm(0.4)})).status_code == 200
    assert (gauge(world, "receiving"), gauge(world, "answering")) == (0, 0)


@pytest.mark.parametrize(("batch_size", "places"), [(4, 64), (17, 68)])
async def test_there_are_places_for_four_batches_where_no_number_is_set(batch_size: int, places: int) -> None:
    class OfThatSize(GatedModel):
        def describe(self) -> ModelDescription:
            return replace(super().describe(), batch_size=batch_size)

    world = await started(model=OfThatSize())
    incoming = [begun(form_body(pcm(1))[:1000]) for _ in range(places)]
    uploads = [asyncio.create_task(send_raw(world.app, "/transcribe", one, FORM)) for one in incoming]
    for _ in range(50):
        await asyncio.sleep(0)
    assert gauge(world, "receiving") == places
    async with world.client() as client:
        assert (await client.post("/transcribe", files={"file": pcm(0.4)})).status_code == 503
    for one in incoming:
        await one.put({"type": "http.disconnect"})
    await asyncio.gather(*uploads)


async def test_a_place_is_taken_from_the_first_byte_on() -> None:
    world = await started(settings=a_settings(max_uploads=1))
    incoming = begun(form_body(pcm(1))[:1000])
    upload = asyncio.create_task(send_raw(world.app, "/transcribe", incoming, FORM))
    await taken(incoming)
    assert gauge(world, "receiving") == 1
    async with world.client() as client:
        assert (await client.post("/transcribe", files={"file": pcm(0.4)})).status_code == 503
        # What brings no recording needs no place.
        assert (await client.get("/v1/models")).status_code == 200
        await incoming.put({"type": "http.disconnect"})
        await upload
        assert gauge(world, "receiving") == 0
        assert (await client.post("/transcribe", files={"file": pcm(0.4)})).status_code == 200


@pytest.mark.parametrize("path", UPLOADS)
async def test_nothing_is_read_before_the_model_is_ready(path: str) -> None:
    unread: Incoming = asyncio.Queue()
    unread.put_nowait({"type": "http.disconnect"})
    answer = await send_raw(World().app, path, unread, FORM | {"content-length": "1000000"})
    status, body = status_of(answer)
    assert status == 503
    assert b'"code":"model_not_ready"' in body


class Stalling(Incoming):
    """A client that falls silent in the middle, and leaves when it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def get(self) -> MutableMapping[str, Any]:
        self.asked += 1
        match self.asked:
            case 1:
                return {"type": "http.request", "body": form_body(pcm(1))[:1000], "more_body": True}
            case 2:
                return await super().get()
            case _:
                return {"type": "http.disconnect"}


@pytest.mark.leaping_clock
@pytest.mark.parametrize("path", UPLOADS)
async def test_an_upload_that_stalls_makes_room(path: str) -> None:
    world = await started(settings=a_settings(upload_pause=30))
    with capture_logs() as lines:
        answer = await send_raw(world.app, path, Stalling(), FORM | {"content-length": "32000"})
    status, body = status_of(answer)
    assert status == 408
    assert b"upload_stalled" in body
    assert (lines[-1]["status"], lines[-1]["code"]) == (408, "upload_stalled")
    assert (world.decoder.opened, gauge(world, "receiving")) == (0, 0)


class Slow(Incoming):
    """A client that sends a piece of so many bytes every so many seconds."""

    def __init__(self, *, piece_bytes: int, every_s: float, pieces: int) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.waited_s = 0.0
        self.asked = 0
        self._piece_bytes = piece_bytes
        self._every_s = every_s
        self._pieces = pieces

    async def get(self) -> MutableMapping[str, Any]:
        self.asked += 1
        self.now_s += self._every_s
        self.waited_s += self._every_s
        return {"type": "http.request", "body": bytes(self._piece_bytes), "more_body": self.asked < self._pieces}


@pytest.mark.parametrize(
    ("client", "code", "after_s"),
    [
        (Slow(piece_bytes=1, every_s=10, pieces=1000), "upload_too_slow", 40),
        # Faster at first does not help for long.
        (Slow(piece_bytes=900, every_s=10, pieces=1000), "upload_too_slow", 300),
        (Slow(piece_bytes=2000, every_s=10, pieces=1000), "upload_timeout", 2000),
        # As slow as it may be, with pauses that are as long as they may be; and much faster.
        (Slow(piece_bytes=3000, every_s=29, pieces=60), None, 60 * 29),
        (Slow(piece_bytes=1, every_s=29, pieces=1), None, 29),
        (Slow(piece_bytes=100_000, every_s=0.1, pieces=1000), None, 100),
    ],
)
async def test_an_upload_has_a_least_rate_and_a_longest_time(client: Slow, code: str | None, after_s: float) -> None:
    taken_after_s = 0.0

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        nonlocal taken_after_s
        more = True
        while more:
            more = (await receive()).get("more_body")
            taken_after_s = client.waited_s
            # What the application does between the pieces is not the client's time.
            client.now_s += 100
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    metrics = PrometheusMetrics()
    pace = UploadPace(longest_pause_s=30, least_bytes_per_s=100, longest_s=2000)
    guarded: Any = RequestLogMiddleware(
        UploadLimitMiddleware(
            app,
            limit_bytes=1 << 30,
            most=lambda: 1,
            pace=pace,
            check_ready=lambda: None,
            metrics=metrics,
            linger_s=0,
            clock=lambda: client.now_s,
        ),
        metrics=metrics,
        known_paths=(),
        kind_of=lambda _: PathKind.API,
    )
    with capture_logs() as lines:
        answer = await send_raw(guarded, "/transcribe", client, FORM)
    assert (answer[0]["status"], lines[-1].get("code")) == (408 if code else 200, code)
    assert taken_after_s == pytest.approx(after_s)


@pytest.mark.leaping_clock
async def test_waiting_for_the_answer_is_no_stall() -> None:
    model = GatedModel()
    world = await started(model=model, settings=a_settings(upload_pause=30))
    async with world.client() as client:
        request = asyncio.create_task(client.post("/transcribe", files={"file": pcm(0.4)}))
        await model.at_work.wait()
        await asyncio.sleep(100)
        model.gate.set()
        assert (await request).status_code == 200


@pytest.mark.leaping_clock
async def test_the_time_for_processing_does_not_run_while_the_upload_does() -> None:
    model = GatedModel()
    world = await started(model=model, timeout_s=20)
    data = form_body(pcm(1))
    incoming = begun(data[:1000])
    request = asyncio.create_task(send_raw(world.app, "/transcribe", incoming, FORM))
    await taken(incoming)
    await asyncio.sleep(25)
    assert (request.done(), world.decoder.opened) == (False, 0)
    await incoming.put({"type": "http.request", "body": data[1000:], "more_body": False})
    # Now it does: the work begins, and is stopped in its time.
    assert status_of(await request)[0] == 504
    assert (world.decoder.opened, model.cancelled) == (1, 1)


async def test_the_log_tells_the_work_from_the_upload() -> None:
    world = await started()
    async with world.client() as client:
        with capture_logs() as lines:
            await client.post("/transcribe", files={"file": pcm(0.4)})
    assert 0 <= lines[-1]["work_ms"] <= lines[-1]["duration_ms"]


@pytest.mark.parametrize("declared", ["text/html", "video/x-nothing", ""])
async def test_what_the_client_says_of_its_recording_is_not_believed(declared: str) -> None:
    world = await started()
    async with world.client() as client:
        answer = await client.post("/transcribe", files={"file": ("page.html", pcm(0.4), declared)})
    assert (answer.status_code, answer.json()) == (200, {"text": "This"})


@pytest.mark.parametrize("declared", [True, False])
async def test_what_is_no_form_is_small(declared: bool) -> None:  # noqa: FBT001
    world = await started()
    incoming = begun(b" " * ((1 << 20) + 1))
    incoming.put_nowait({"type": "http.disconnect"})
    headers = {"content-type": "application/json"} | ({"content-length": str((1 << 20) + 1)} if declared else {})
    status, body = status_of(await send_raw(world.app, "/v1/realtime/client_secrets", incoming, headers))
    assert (status, b'"code":"upload_too_large"' in body) == (413, True)
