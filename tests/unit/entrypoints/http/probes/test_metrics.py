import pytest
from structlog.testing import capture_logs

from tests.unit.entrypoints.world import World, a_settings, pcm, started

REQUESTS = "parakeet_http_request_duration_seconds_count"


async def figures(world: World) -> dict[str, float]:
    body, _ = world.metrics.exposition("")
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_shows_what_happened_to_whoever_asks() -> None:
    world = await started()
    async with world.client() as client:
        await client.post("/transcribe", files={"file": pcm(1.5)})
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'parakeet_audio_seconds_total{source="file"} 1.5' in answer.text
    assert "parakeet_real_time_factor_count 1.0" in answer.text


async def test_speaks_openmetrics_to_who_prefers_it() -> None:
    async with (await started()).client() as client:
        answer = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_with_keys_the_figures_need_one() -> None:
    world = await started(settings=a_settings(api_keys="prometheus:s3cret"))
    async with world.client() as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers={"authorization": "Bearer s3cret"})).status_code == 200


async def test_a_scraper_does_not_fill_the_log() -> None:
    async with (await started()).client() as client:
        with capture_logs() as lines:
            await client.get("/metrics")
    assert [line["log_level"] for line in lines] == ["debug"]


async def test_routes_are_counted_by_their_templates() -> None:
    world = await started(settings=a_settings(api_keys="s3cret"))
    async with world.client(authorization="Bearer s3cret") as client:
        await client.get("/v1/models/some/thing")
        await client.get("/v1/models")
        for guess in range(20):
            await client.get(f"/{guess}")
    async with world.client() as client:
        # Refused before it has a route.
        await client.post("/transcribe", files={"file": pcm(0.4)})
        await client.get("/admin")
    counted = {name: value for name, value in (await figures(world)).items() if name.startswith(REQUESTS)}
    assert counted == {
        f'{REQUESTS}{{method="GET",route="/v1/models/{{model_id:path}}",status="404"}}': 1,
        f'{REQUESTS}{{method="GET",route="/v1/models",status="200"}}': 1,
        f'{REQUESTS}{{method="GET",route="unmatched",status="404"}}': 20,
        f'{REQUESTS}{{method="POST",route="/transcribe",status="401"}}': 1,
        f'{REQUESTS}{{method="GET",route="unmatched",status="401"}}': 1,
    }


@pytest.mark.parametrize("key", ["s3cret", "wrong"])
async def test_live_sessions_are_counted_by_how_they_end(key: str) -> None:
    world = await started(settings=a_settings(api_keys="s3cret"))
    async with world.live({"authorization": f"Bearer {key}"}) as client:
        if key == "s3cret":
            await client.ready()
            await client.say(pcm(1.5))
            await client.say({"type": "close"})
            await client.hear_until_close()
        else:
            await client.next()
    seen = await figures(world)
    code, heard_s = ("1000", 1.5) if key == "s3cret" else ("401", 0)
    assert seen[f'parakeet_websocket_session_duration_seconds_count{{code="{code}",route="/ws"}}'] == 1
    assert seen['parakeet_audio_seconds_total{source="live"}'] == heard_s
