"""Deepgram's routes and MCP are limited and counted like the service's own."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

from parakeet_service.bootstrap.mounted_mcp import MountedMcp
from tests.unit.entrypoints.world import World, a_settings, pcm, started

Use: TypeAlias = Callable[[World, str], Awaitable[int]]
"""Transcribes a second of audio with a key, and gives the status."""
URL = "https://example.com/a.wav"
KEYS = {"api_keys": "alice:one,bob:two"}
INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}},
}
CALL: dict[str, Any] = {
    "id": 2,
    "method": "tools/call",
    "params": {"name": "transcribe", "arguments": {"url": URL}},
}


async def listen(world: World, key: str) -> int:
    async with world.client(authorization=f"Token {key}") as client:
        return (await client.post("/v1/listen", content=pcm(1))).status_code


async def listen_to_url(world: World, key: str) -> int:
    async with world.client(authorization=f"Token {key}") as client:
        return (await client.post("/v1/listen", json={"url": URL})).status_code


async def listen_live(world: World, key: str) -> int:
    query = "encoding=linear16&sample_rate=16000"
    headers = {"authorization": f"Token {key}"}
    async with world.live(headers, path="/v1/listen", query=query) as client:
        begun = await client.next()
        if begun["type"] != "websocket.accept":
            status: int = begun["status"]
            return status
        await client.say(pcm(1))
        await client.say({"type": "CloseStream"})
        await client.hear_until_close()
        return 200


async def mcp(world: World, key: str) -> int:
    # Not by the official client, which asks for more than the call, and raises where that is refused.
    headers = {"authorization": f"Bearer {key}", "accept": "application/json, text/event-stream"}
    async with world.client(**headers) as client:
        answer = await client.post("/mcp", json=INITIALIZE)
        for message in ({"method": "notifications/initialized"}, CALL):
            if not answer.is_success:
                break
            session = {"mcp-session-id": client.headers.get("mcp-session-id", answer.headers.get("mcp-session-id", ""))}
            client.headers.update(session | {"mcp-protocol-version": "2025-06-18"})
            answer = await client.post("/mcp", json={"jsonrpc": "2.0", **message})
    if answer.is_success:
        assert '"isError":false' in answer.text
    return answer.status_code


@asynccontextmanager
async def serving(**settings: Any) -> AsyncGenerator[World]:
    configured = a_settings(mcp=True, **KEYS, **settings)
    world = await started(settings=configured)
    world.web.recordings[URL] = pcm(1)
    mounted = MountedMcp(configured)
    mounted.mount(world.app)
    async with mounted.server(world.service):
        yield world


USES = pytest.mark.parametrize("use", [listen, listen_to_url, listen_live, mcp])


async def audio_seconds(world: World) -> float:
    async with world.client(authorization="Bearer two") as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("parakeet_audio_seconds_total"))


@USES
async def test_seconds_of_audio_are_charged_to_the_key_and_counted(use: Use) -> None:
    async with serving(audio_rate_limit="2/day") as world:
        assert [await use(world, "one") for _ in range(3)] == [200, 200, 429]
        assert await use(world, "two") == 200
        assert await audio_seconds(world) == pytest.approx(3)


@USES
async def test_requests_are_counted(use: Use) -> None:
    async with serving(rate_limit="30/day") as world:
        answers = [await use(world, "one") for _ in range(3)]
        while 429 not in answers and len(answers) < 31:
            answers.append(await use(world, "one"))
        assert answers[:2] == [200, 200]
        assert answers[-1] == 429
        assert await use(world, "two") == 200


async def test_requests_and_sessions_are_counted_by_their_routes() -> None:
    async with serving() as world:
        for use in (listen, listen_live, mcp):
            assert await use(world, "one") == 200
        async with world.client(authorization="Bearer two") as client:
            text = (await client.get("/metrics")).text
    for counted in (
        'parakeet_http_request_duration_seconds_count{method="POST",route="/v1/listen",status="200"} 1.0',
        'parakeet_http_request_duration_seconds_count{method="POST",route="/mcp",status="200"} 2.0',
        'parakeet_http_request_duration_seconds_count{method="POST",route="/mcp",status="202"} 1.0',
        'parakeet_websocket_session_duration_seconds_count{code="1000",route="/v1/listen"} 1.0',
    ):
        assert counted in text
    assert 'route="unmatched"' not in text
