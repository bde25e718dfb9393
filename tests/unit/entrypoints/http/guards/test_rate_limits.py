import httpx2
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from parakeet_service.adapters.rate_limits import RateLimits
from parakeet_service.config.settings import Settings
from parakeet_service.domain.errors import RateLimitError
from tests.unit.entrypoints.http.openai.realtime.client import speaker, voice
from tests.unit.entrypoints.world import World, a_settings, pcm, started

KEYS = {"api_keys": "alice:one,alice:two,bob:three"}
DAY_S = 86400


async def get(world: World, path: str = "/v1/models", key: str = "", address: str = "192.0.2.1") -> httpx2.Response:
    transport = httpx2.ASGITransport(world.app, client=(address, 1))
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx2.AsyncClient(transport=transport, base_url="http://service", headers=headers) as client:
        return await client.get(path)


async def test_without_limits_nobody_is_counted() -> None:
    limits = RateLimits(requests="", audio_s="")
    for _ in range(100):
        await limits.admit("a")
        await limits.charge("a", 1e9)


async def test_each_caller_has_its_own_share() -> None:
    limits = RateLimits(requests="2/day", audio_s="")
    await limits.admit("a")
    await limits.admit("a")
    with pytest.raises(RateLimitError, match="Rate limit exceeded: 2 requests per day") as caught:
        await limits.admit("a")
    assert DAY_S - 60 < caught.value.retry_after_s <= DAY_S
    await limits.admit("b")


async def test_every_limit_counts() -> None:
    limits = RateLimits(requests="5/second; 3/2 days", audio_s="")
    for _ in range(3):
        await limits.admit("a")
    with pytest.raises(RateLimitError, match="Rate limit exceeded: 3 requests per 2 days"):
        await limits.admit("a")


async def test_audio_counts_once_it_was_read() -> None:
    limits = RateLimits(requests="", audio_s="10/day")
    await limits.admit("a")
    await limits.charge("a", 9)
    await limits.admit("a")
    # One recording may go beyond: how long it is shows only when it has been read.
    with pytest.raises(RateLimitError, match="10 seconds of audio per day"):
        await limits.charge("a", 3600)
    with pytest.raises(RateLimitError, match="10 seconds of audio per day"):
        await limits.admit("a")
    await limits.admit("b")


async def test_silence_about_audio_costs_nothing() -> None:
    limits = RateLimits(requests="", audio_s="1/day")
    await limits.charge("a", 0)
    await limits.admit("a")


async def test_openai_clients_hear_it_in_their_envelope() -> None:
    world = await started(settings=a_settings(rate_limit="1/day"))
    await get(world)
    answer = await get(world)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > DAY_S - 60
    assert answer.json()["error"] == {
        "message": "Rate limit exceeded: 1 requests per day.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }


async def test_others_hear_it_in_ours() -> None:
    world = await started(settings=a_settings(rate_limit="1/day"))
    await get(world, "/config")
    answer = await get(world, "/config")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert "type" not in answer.json()["error"]
    assert answer.headers["retry-after"]


async def test_a_limit_belongs_to_the_owner_of_the_keys_wherever_it_is() -> None:
    world = await started(settings=a_settings(rate_limit="2/day", **KEYS))
    asked = [("one", "192.0.2.1"), ("two", "192.0.2.2"), ("one", "192.0.2.3"), ("three", "192.0.2.1")]
    assert [(await get(world, key=key, address=address)).status_code for key, address in asked] == [200, 200, 429, 200]


async def test_without_keys_it_belongs_to_the_address() -> None:
    world = await started(settings=a_settings(rate_limit="1/day"))
    asked = ["192.0.2.1", "192.0.2.1", "192.0.2.2"]
    assert [(await get(world, address=address)).status_code for address in asked] == [200, 429, 200]


async def test_guessing_keys_has_a_limit_that_owners_do_not_feel() -> None:
    world = await started(settings=a_settings(rate_limit="2/day", **KEYS))
    assert [(await get(world, key=key)).status_code for key in ("x", "y", "z", "one")] == [401, 401, 429, 200]


@pytest.mark.parametrize(("keys", "key"), [(KEYS, "one"), ({}, "")])
async def test_probes_documentation_and_figures_are_free(keys: dict[str, str], key: str) -> None:
    world = await started(settings=a_settings(rate_limit="1/day", **keys))
    for path in ("/healthz", "/readyz", "/docs", "/metrics"):
        assert [(await get(world, path, key=key)).status_code for _ in range(3)] == [200] * 3


async def test_a_recording_is_charged_to_its_sender() -> None:
    world = await started(settings=a_settings(audio_rate_limit="2/day"))
    async with world.client() as client:
        for expected in (200, 200, 429):
            assert (await client.post("/transcribe", files={"file": pcm(1)})).status_code == expected


async def test_opening_a_live_session_counts_and_its_audio_too() -> None:
    world = await started(settings=a_settings(audio_rate_limit="1/day"))
    async with world.live() as client:
        await client.ready()
        await client.say(pcm(0.9))
        await client.say({"type": "close"})
        await client.hear_until_close()
    async with world.live() as client:
        refusal = await client.next()
    assert (refusal["type"], refusal["status"]) == ("websocket.http.response.start", 429)
    assert b"retry-after" in dict(refusal["headers"])
    async with world.live(denial=False) as client:
        assert (await client.next())["code"] == 1013


async def test_a_live_session_that_goes_beyond_its_limit_hears_its_last_words_and_when_to_come_back() -> None:
    world = await started(settings=a_settings(audio_rate_limit="2/day"))
    async with world.live() as client:
        await client.ready()
        for _ in range(5):
            await client.say(pcm(0.5))
        heard, code = await client.hear_until_close()
    assert code == 1013
    assert heard[-2]["type"] == "final"
    assert heard[-2]["text"] == "This text comes from a"
    assert heard[-1]["code"] == "rate_limit_exceeded"
    assert heard[-1]["retry_after_ms"] > (DAY_S - 60) * 1000


async def test_what_a_live_session_has_paid_for_is_not_charged_again() -> None:
    world = await started(settings=a_settings(audio_rate_limit="3/day"))
    for _ in range(2):
        async with world.live() as client:
            await client.ready()
            await client.say(pcm(1))
            await client.say({"type": "close"})
            assert (await client.hear_until_close())[1] == 1000
    async with world.live() as client:
        await client.ready()


async def test_a_client_secret_spends_what_its_maker_has() -> None:
    world = await started(settings=a_settings(audio_rate_limit="2/day", **KEYS))
    async with world.client(authorization="Bearer one") as client:
        secret = (await client.post("/v1/realtime/client_secrets", json={})).json()["value"]
    with capture_logs() as lines:
        async with speaker(world, headers={"authorization": f"Bearer {secret}"}) as one:
            await one.append(voice(3))
            assert await one.hear_until_close() == 1013
    assert lines[-1]["key"] == "alice"
    assert [(await get(world, key=key)).status_code for key in ("one", "two", "three")] == [429, 429, 200]
    for path, status in (("/v1/realtime", 429), ("/ws", 401)):
        async with world.live({"authorization": f"Bearer {secret}"}, path=path) as line:
            assert (await line.next())["status"] == status


@pytest.mark.parametrize("name", ["rate_limit", "audio_rate_limit"])
@pytest.mark.parametrize("value", ["60", "many/minute", "60/fortnight", "1/minute;"])
def test_a_limit_that_cannot_be_read_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match="write limits as 60/minute"):
        Settings.model_validate({name: value})
