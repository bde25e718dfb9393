"""Below the prefix of a proxy, everything is as it is without."""

from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from tests.fakes import NOT_AUDIO
from tests.unit.entrypoints.world import World, a_settings, pcm, started

KEY = {"authorization": "Bearer s3cret"}


class Proxied:
    """The service as a proxy shows it, in one of the ways in which it may say so."""

    def __init__(self, world: World, *, before: str, root_path: str, headers: Mapping[str, str]) -> None:
        self.world = world
        self.before = before
        self.root_path = root_path
        self.headers = dict(headers)

    def client(self, **headers: str) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(self.world.app, root_path=self.root_path)
        return httpx2.AsyncClient(
            transport=transport, base_url=f"http://service{self.before}", headers={**self.headers, **headers}
        )


WAYS: list[dict[str, Any]] = [
    {"settings": {"root_path": "/stt"}, "before": "", "root_path": "", "headers": {}},
    {"settings": {"root_path": "/stt"}, "before": "/stt", "root_path": "", "headers": {}},
    {"settings": {}, "before": "", "root_path": "", "headers": {"x-forwarded-prefix": "/stt"}},
    {"settings": {}, "before": "/stt", "root_path": "", "headers": {"x-forwarded-prefix": "/stt/"}},
    # As uvicorn has it with its own --root-path, for proxies that take the prefix off and for those that do not.
    {"settings": {}, "before": "/stt", "root_path": "/stt", "headers": {}},
    {"settings": {}, "before": "/stt/stt", "root_path": "/stt", "headers": {}},
    {"settings": {"root_path": "/a/b"}, "before": "/a/b", "root_path": "", "headers": {}},
]


@pytest.fixture(params=range(len(WAYS)))
async def proxied(request: pytest.FixtureRequest) -> Proxied:
    number: int = request.param
    way = dict(WAYS[number])
    world = await started(settings=a_settings(api_keys="s3cret", rate_limit="2/hour", **way.pop("settings")))
    return Proxied(world, **way)


async def test_probes_page_and_documentation_need_no_key_and_cost_nothing(proxied: Proxied) -> None:
    async with proxied.client() as client:
        for path in ("/healthz", "/readyz", "/", "/page/page.js", "/docs", "/openapi.json") * 2:
            assert (await client.get(path)).status_code == 200, path


async def test_the_rest_needs_one(proxied: Proxied) -> None:
    async with proxied.client() as client:
        for path, told in (("/config", "code"), ("/v1/models", "type")):
            answer = await client.get(path)
            assert (answer.status_code, told in answer.json()["error"]) == (401, True), path


async def test_metrics_need_one_and_cost_nothing(proxied: Proxied) -> None:
    async with proxied.client(**KEY) as client:
        for _ in range(3):
            assert (await client.get("/metrics")).status_code == 200


async def test_errors_of_openais_routes_are_openais(proxied: Proxied) -> None:
    async with proxied.client(**KEY) as client:
        bad = await client.post("/v1/audio/transcriptions", files={"file": NOT_AUDIO}, data={"model": "whisper-1"})
        missing = await client.post("/v1/audio/transcriptions", data={"model": "whisper-1"})
    for answer in (bad, missing):
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_short_lived_key_opens_a_realtime_session(proxied: Proxied) -> None:
    async with proxied.client(**KEY) as client:
        secret = (await client.post("/v1/realtime/client_secrets", json={})).json()["value"]
    headers = {**proxied.headers, "authorization": f"Bearer {secret}"}
    path = f"{proxied.before}/v1/realtime"
    async with proxied.world.live(headers, path=path, root_path=proxied.root_path) as live:
        await live.accepted()


async def test_recordings_are_transcribed(proxied: Proxied) -> None:
    async with proxied.client(**KEY) as client:
        assert (await client.post("/transcribe", files={"file": pcm(0.4)})).json() == {"text": "This"}


async def test_the_documentation_knows_the_prefix() -> None:
    world = await started(settings=a_settings(root_path="/stt"))
    async with world.client() as client:
        assert "'/stt/openapi.json'" in (await client.get("/docs")).text
        assert (await client.get("/openapi.json")).json()["servers"] == [{"url": "/stt"}]


@pytest.mark.parametrize("prefix", ["//evil.example", "https://evil.example", "/a'b", "/a b", '/../x"', "/<script>"])
async def test_a_prefix_that_is_none_is_ignored(prefix: str) -> None:
    world = await started()
    async with world.client(**{"x-forwarded-prefix": prefix}) as client:
        assert "'/openapi.json'" in (await client.get("/docs")).text


@pytest.mark.parametrize("prefix", ["/healthz", "/page", "/docs", "/metrics", "/v1"])
async def test_a_prefix_opens_no_door(prefix: str) -> None:
    world = await started(settings=a_settings(api_keys="s3cret"))
    async with world.client(**{"x-forwarded-prefix": prefix}) as client:
        for path in ("/config", f"{prefix}/config", "/v1/models", f"{prefix}/v1/models"):
            assert (await client.get(path)).status_code == 401, path


@pytest.mark.parametrize(
    ("given", "known"), [("stt", "/stt"), ("/stt/", "/stt"), ("/a/b", "/a/b"), ("/", ""), ("", "")]
)
def test_a_prefix_may_be_written_in_several_ways(given: str, known: str) -> None:
    assert a_settings(root_path=given).root_path == known
