import asyncio
from importlib.metadata import version

import pytest
from structlog.testing import capture_logs

from parakeet_service.application.ports.speech_model import ModelDescription
from parakeet_service.domain.errors import ModelLoadError, ModelNotReadyError
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.world import World, started


class SlowToLoad(ScriptedModel):
    def __init__(self) -> None:
        super().__init__()
        self.may_load = asyncio.Event()
        self.loaded = asyncio.Event()
        self.gave_up = False

    async def start(self) -> None:
        try:
            await self.may_load.wait()
        except asyncio.CancelledError:
            self.gave_up = True
            raise
        await super().start()
        self.loaded.set()


class CannotLoad(ScriptedModel):
    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failure = failure
        self.failed = False

    async def start(self) -> None:
        self.failed = True
        raise self.failure

    def describe(self) -> ModelDescription:
        if self.failed:
            raise ModelLoadError("There is no such model.")
        return super().describe()


async def test_answers_probes_while_the_model_loads() -> None:
    model = SlowToLoad()
    world = World(model=model)
    async with world.app.router.lifespan_context(world.app), world.client() as client:
        alive, ready, config = [await client.get(path) for path in ("/healthz", "/readyz", "/config")]
        assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
        assert ready.status_code == 503
        assert ready.json() == {
            "status": "not_ready",
            "reason": "The model has not been started.",
            "code": "model_not_ready",
        }
        assert config.json()["model"] is None
        model.may_load.set()
        await model.loaded.wait()
        ready, config = [await client.get(path) for path in ("/readyz", "/config")]
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert config.json()["model"]["id"] == "scripted"
    assert config.json()["settings"]["processing_timeout"] == 120


async def test_says_how_far_a_download_is() -> None:
    class Downloading(ScriptedModel):
        def describe(self) -> ModelDescription:
            message = "The model is still being downloaded."
            raise ModelNotReadyError(message, state="downloading", done_bytes=5, total_bytes=2_470_000_000)

    async with World(model=Downloading()).client() as client:
        ready, refused = await client.get("/readyz"), await client.post("/transcribe", files={"file": b"a"})
    assert (ready.status_code, ready.json()) == (
        503,
        {
            "status": "not_ready",
            "reason": "The model is still being downloaded.",
            "code": "model_not_ready",
            "state": "downloading",
            "done_bytes": 5,
            "total_bytes": 2_470_000_000,
        },
    )
    assert (refused.status_code, refused.json()["error"]["state"]) == (503, "downloading")


async def test_says_which_version_it_is() -> None:
    world = await started()
    with capture_logs() as lines:
        async with world.app.router.lifespan_context(world.app), world.client() as client:
            config, metrics = await client.get("/config"), await client.get("/metrics")
    number = version("parakeet-service")
    assert config.json()["version"] == number
    assert f'parakeet_build_info{{version="{number}"}} 1.0' in metrics.text
    assert [line["version"] for line in lines if line["event"] == "starting"] == [number]


async def test_stops_what_it_started() -> None:
    world = World()
    async with world.app.router.lifespan_context(world.app):
        assert not world.stopped
    assert world.stopped


async def test_gives_up_loading_when_it_is_stopped() -> None:
    model = SlowToLoad()
    world = World(model=model)
    async with world.app.router.lifespan_context(world.app):
        await asyncio.sleep(0)
    assert (model.gave_up, world.stopped, world.fatal.is_set()) == (True, True, False)


@pytest.mark.parametrize(
    ("failure", "code"), [(ModelLoadError("There is no such model."), "model_load_failed"), (OSError("disk"), None)]
)
async def test_a_model_that_cannot_be_loaded_ends_the_process_and_says_why(
    failure: Exception, code: str | None
) -> None:
    world = World(model=CannotLoad(failure))
    with capture_logs() as lines:
        async with world.app.router.lifespan_context(world.app), world.client() as client:
            await world.fatal.wait()
            ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "model_load_failed")
    critical = [line for line in lines if line["log_level"] == "critical"]
    assert [(str(failure) in line["reason"], line["code"]) for line in critical] == [(True, code)]
    assert world.stopped


async def test_documents_what_it_answers() -> None:
    async with (await started()).client() as client:
        assert "swagger" in (await client.get("/docs")).text
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert set(paths) == {
        "/healthz",
        "/readyz",
        "/config",
        "/metrics",
        "/transcribe",
        "/asr",
        "/detect-language",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/models",
        "/v1/realtime/client_secrets",
        "/v1/realtime/transcription_sessions",
        "/v1/models/{model_id}",
    }
    assert set(paths["/transcribe"]["post"]["responses"]) == {
        *("200", "400", "401", "408", "413", "415", "421", "422", "429", "500", "503", "504", "507")
    }
    openai = paths["/v1/audio/transcriptions"]["post"]
    assert "422" not in openai["responses"]
    assert all(operation["summary"] for path in paths.values() for operation in path.values())


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_answer_head(path: str) -> None:
    async with World().client() as client:
        head, get = await client.head(path), await client.get(path)
    assert head.status_code == get.status_code


@pytest.mark.parametrize("path", ["/ws", "/v1/realtime"])
async def test_a_plain_request_for_a_socket_is_told_what_it_lacks(path: str) -> None:
    async with World().client() as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert "proxy" in answer.json()["error"]["message"]
