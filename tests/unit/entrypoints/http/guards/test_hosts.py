"""Under which names the service may be called."""

import socket

import pytest

from parakeet_service.entrypoints.http.guards.hosts import is_known_host
from tests.unit.entrypoints.world import a_settings, pcm, started


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:8000",
        "10.1.2.3:1",
        "[::1]:8000",
        "[::1]",
        "",
    ],
)
def test_addresses_and_localhost_are_always_known(host: str) -> None:
    assert is_known_host(host, ())


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "1",
        "127.0.0.1x",
        "[evil]",
    ],
)
def test_other_names_are_not(host: str) -> None:
    assert not is_known_host(host, ())
    assert is_known_host(host, ("*",))


@pytest.mark.parametrize(
    ("host", "known"),
    [("stt.example.com:443", True), ("STT.example.com.", True), ("a.b.org", True), ("b.org", False), ("xb.org", False)],
)
def test_names_that_are_allowed_are_known(host: str, known: bool) -> None:  # noqa: FBT001
    assert is_known_host(host, ("stt.example.com", "*.b.org")) is known


@pytest.mark.parametrize("path", ["/", "/config", "/metrics", "/v1/models", "/docs", "/nowhere"])
async def test_a_page_whose_name_points_to_us_gets_nothing(path: str) -> None:
    world = await started()
    async with world.client(host="evil.example:8000") as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "unknown_host")
    assert "ALLOWED_HOSTS" in answer.json()["error"]["message"]


async def test_nor_may_it_upload_or_connect() -> None:
    world = await started()
    evil = {"host": "evil.example", "origin": "http://evil.example"}
    async with world.client(**evil) as client:
        assert (await client.post("/transcribe", files={"file": pcm(1)})).status_code == 421
    for path in ("/ws", "/v1/realtime"):
        async with world.live(evil, path=path) as live:
            assert (await live.next())["status"] == 421


async def test_probes_answer_under_any_name() -> None:
    world = await started()
    async with world.client(host="10-1-2-3.pod.cluster.example") as client:
        assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]


async def test_the_machines_own_name_is_known() -> None:
    world = await started(settings=a_settings(allowed_hosts=()))
    name = socket.gethostname()
    for host in (name, f"{name.partition('.')[0]}.local:8000"):
        async with world.client(host=host) as client:
            assert (await client.get("/config")).status_code == 200
    async with world.client(host="service") as client:
        assert (await client.get("/config")).status_code == 421


async def test_with_keys_any_name_will_do() -> None:
    world = await started(settings=a_settings(api_keys="s3cret"))
    async with world.client(host="stt.example.com", authorization="Bearer s3cret") as client:
        assert (await client.get("/config")).status_code == 200


@pytest.mark.parametrize("hosts", ["https://stt.example.com", "stt.example.com:443", "a/b", "*.*", "a..b"])
def test_what_is_no_name_stops_the_start(hosts: str) -> None:
    with pytest.raises(ValueError, match="a host is a name"):
        a_settings(allowed_hosts=hosts)
