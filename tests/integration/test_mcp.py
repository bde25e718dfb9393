"""MCP's official client on both transports, clients that know only the handshake of 2025, and clients that err."""

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tests.conftest import SharedServer
from tests.integration.processes import SAMPLE, clean_environment, started, wait_until_ok

KEY = {"API_KEYS": "bob:letmein", "AUDIO_RATE_LIMIT": "100000/hour"}
INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "old", "version": "1"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


def call(number: int, **arguments: object) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": number,
        "method": "tools/call",
        "params": {"name": "transcribe", "arguments": arguments},
    }


@pytest.fixture(scope="module")
def url(shared_server: SharedServer) -> str:
    return shared_server(MCP="true", MCP_ROOT=str(SAMPLE.parent), **KEY)[1]


@asynccontextmanager
async def over_http(url: str, key: str = "letmein") -> AsyncGenerator[Client]:
    headers = {"authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=600) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
    ):
        yield client


@asynccontextmanager
async def over_stdio(directory: Path, *arguments: str, **settings: str) -> AsyncGenerator[Client]:
    environment = clean_environment(MODEL_ID="embedded", **settings)
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "parakeet_service", "mcp", *arguments], env=environment, cwd=directory
    )
    async with Client(server) as client:
        yield client


def own_text(url: str) -> str:
    headers = {"authorization": "Bearer letmein"}
    sent = {"file": SAMPLE.read_bytes()}
    answer = httpx2.post(f"{url}/transcribe", files=sent, headers=headers, trust_env=False, timeout=600)
    text: str = answer.json()["text"]
    return text


async def check(client: Client, text: str) -> None:
    told: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        assert message
        told.append(progress)

    assert {tool.name for tool in (await client.list_tools()).tools} == {"transcribe", "server_status"}
    asked = {"path": SAMPLE.name, "format": "json", "words": True}
    result = await client.call_tool("transcribe", asked, progress_callback=on_progress)
    assert result.structured_content is not None
    assert not result.is_error
    assert result.structured_content["text"] == text
    assert " ".join(one["text"] for one in result.structured_content["words"]) == text
    assert " ".join(one["text"] for one in result.structured_content["segments"]) == text
    # The client calls back in tasks of their own, which may run after the result is there.
    while not told:
        await asyncio.sleep(0.01)
    assert told == sorted(told)
    captions = await client.call_tool("transcribe", {"path": SAMPLE.name, "format": "vtt"})
    assert captions.structured_content is not None
    assert captions.structured_content["text"].startswith("WEBVTT")
    refused = {
        "../../main.py": "no such file",
        "/etc/passwd": "no such file",
        "missing.wav": "no such file",
        ".": "no such file",
        "a\0b": "no such file",
        "README.md": "cannot be decoded",
    }
    for path, says in refused.items():
        result = await client.call_tool("transcribe", {"path": path})
        assert result.is_error
        assert says in str(result.content[0])
    result = await client.call_tool("transcribe", {"url": "https://169.254.169.254/latest"})
    assert result.is_error
    assert "url_not_allowed" in str(result.content[0])
    status = await client.call_tool("server_status", {})
    assert status.structured_content == {"status": "ready: embedded"}


async def test_the_official_client_over_http(url: str) -> None:
    async with over_http(url) as client:
        await check(client, own_text(url))


async def test_the_official_client_over_standard_streams(url: str) -> None:
    async with over_stdio(SAMPLE.parent) as client:
        await check(client, own_text(url))


@pytest.fixture(scope="module")
def url_with_jobs(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    cwd = tmp_path_factory.mktemp("jobs")
    command = (sys.executable, "-m", "parakeet_service", "serve", "--port", "0")
    settings = {"MCP": "true", "MCP_ROOT": str(SAMPLE.parent), "JOBS": "on", "DATA_DIR": str(cwd / "data"), **KEY}
    with started(command, cwd=cwd, MODEL_ID="embedded", **settings) as server:
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        yield url
        assert server.stop() == 0
    assert not [line for line in server.lines if "Traceback" in line]


async def test_the_official_client_asks_a_service_elsewhere(url: str) -> None:
    async with over_stdio(SAMPLE.parent, "--url", url, "--api-key", "letmein") as client:
        await check(client, own_text(url))
    async with over_stdio(SAMPLE.parent, "--url", url, API_KEY="wrong") as client:
        result = await client.call_tool("transcribe", {"path": SAMPLE.name})
        assert "(unauthorized)" in str(result.content[0])


async def check_jobs(client: Client, text: str) -> None:
    tools = {"transcribe", "server_status", "start_transcription", "get_transcription"}
    assert {tool.name for tool in (await client.list_tools()).tools} == tools
    started_job = (await client.call_tool("start_transcription", {"path": SAMPLE.name})).structured_content
    assert started_job is not None
    asked = {"id": started_job["id"], "format": "json", "words": True, "wait": 60}
    job = (await client.call_tool("get_transcription", asked)).structured_content
    assert job is not None
    assert (job["status"], job["duration"]) == ("completed", 14.394)
    direct = await client.call_tool("transcribe", {"path": SAMPLE.name, "format": "json", "words": True})
    assert job["transcript"] == direct.structured_content
    assert job["transcript"]["text"] == text
    nobodys = await client.call_tool("get_transcription", {"id": "job_" + "0" * 32})
    assert "job_not_found" in str(nobodys.content[0])


async def test_jobs_by_the_official_client(url_with_jobs: str) -> None:
    text = own_text(url_with_jobs)
    async with over_http(url_with_jobs) as client:
        await check_jobs(client, text)
    async with over_stdio(SAMPLE.parent, "--url", url_with_jobs, API_KEY="letmein") as client:
        await check_jobs(client, text)


async def test_symbolic_links_do_not_lead_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out.wav").symlink_to(SAMPLE)
    (root / "in.wav").write_bytes(SAMPLE.read_bytes())
    (root / "inner.wav").symlink_to(root / "in.wav")
    async with over_stdio(root) as client:
        assert (await client.call_tool("transcribe", {"path": "out.wav"})).is_error
        assert not (await client.call_tool("transcribe", {"path": "inner.wav"})).is_error


async def test_keys_origins_quotas_and_metrics_are_as_elsewhere(url: str) -> None:
    def post(**headers: str) -> httpx2.Response:
        return httpx2.post(f"{url}/mcp", json=INITIALIZE, headers={**JSON, **headers}, trust_env=False)

    assert post().status_code == 401
    assert post(authorization="Bearer wrong").status_code == 401
    key = "Bearer letmein"
    assert post(authorization=key).status_code == 200
    assert post(authorization=key, origin="https://evil.example").status_code == 403
    assert post(authorization=key, origin=url).status_code == 200

    def counted() -> float:
        lines = httpx2.get(f"{url}/metrics", headers={"authorization": key}, trust_env=False).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("parakeet_audio_seconds_total"))

    before = counted()
    async with over_http(url) as client:
        await client.call_tool("transcribe", {"path": SAMPLE.name})
    assert counted() - before == pytest.approx(14.394, abs=0.01)


def test_without_a_root_http_reads_no_files(shared_server: SharedServer) -> None:
    url = shared_server(MCP="true")[1]
    with httpx2.Client(headers=JSON, trust_env=False, timeout=600) as client:
        first = client.post(f"{url}/mcp", json=INITIALIZE)
        session = {"mcp-session-id": first.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
        client.post(f"{url}/mcp", json=INITIALIZED, headers=session)
        assert "reads no files" in client.post(f"{url}/mcp", json=call(2, path="demo.wav"), headers=session).text


def test_the_handshake_of_2025_over_http(url: str) -> None:
    with httpx2.Client(headers={**JSON, "authorization": "Bearer letmein"}, trust_env=False, timeout=600) as client:
        first = client.post(f"{url}/mcp", json=INITIALIZE)
        assert '"protocolVersion":"2025-06-18"' in first.text
        session = {"mcp-session-id": first.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
        assert client.post(f"{url}/mcp", json=INITIALIZED, headers=session).status_code == 202
        answer = client.post(f"{url}/mcp", json=call(2, path=SAMPLE.name), headers=session).text
        assert "early part of the century" in answer


def _stdio(directory: Path, *options: str, arguments: tuple[str, ...] = ()) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, *options, "-m", "parakeet_service", "mcp", *arguments],
        cwd=directory,
        env={**clean_environment(MODEL_ID="embedded", LOG_FORMAT="json")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _write(file: IO[bytes], data: bytes) -> None:
    file.write(data)
    file.flush()


def _lines(*messages: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def test_the_handshake_of_2025_over_standard_streams_with_logs_on_standard_error() -> None:
    with _stdio(SAMPLE.parent) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(_lines(INITIALIZE, INITIALIZED, call(2, path=SAMPLE.name)))
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        rest, log = process.communicate()
    assert answers[0]["result"]["protocolVersion"] == "2025-06-18"
    assert "early part of the century" in answers[1]["result"]["structuredContent"]["text"]
    assert rest == b""
    assert b"model_loaded" in log
    assert process.returncode == 0


HEAVY = {"numpy", "onnxruntime", "fastapi", "mlx", "sqlalchemy", "soxr"}


def imported(log: IO[bytes], until: bytes | None = None) -> set[str]:
    """What Python says it has imported, up to a module, or to the end."""
    names = set[str]()
    for line in log:
        name = line.rpartition(b"|")[2].strip()
        if line.startswith(b"import time:"):
            names.add(name.decode())
        if name == until:
            break
    return names


def test_the_handshake_is_answered_before_anything_heavy_is_imported() -> None:
    with _stdio(SAMPLE.parent, "-X", "importtime") as process, ThreadPoolExecutor() as threads:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        log = threads.submit(imported, process.stderr)
        process.stdin.write(_lines(INITIALIZE))
        process.stdin.flush()
        assert b'"protocolVersion":"2025-06-18"' in process.stdout.readline()
        process.stdin.close()
        before = log.result()
    assert "mcp.server.mcpserver" in before
    assert not HEAVY & before
    # Once the client has been greeted they are imported, whether it calls or not.
    with _stdio(SAMPLE.parent, "-X", "importtime") as process, ThreadPoolExecutor() as threads:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(_lines(INITIALIZE, INITIALIZED))
        process.stdin.flush()
        after = imported(process.stderr, until=b"onnxruntime")
        assert {"numpy", "onnxruntime"} <= after
        rest = threads.submit(process.stderr.read)
        process.stdin.close()
        rest.result()
    assert process.returncode == 0


def test_a_service_elsewhere_needs_no_model_and_nothing_of_what_it_is_made_of(url: str) -> None:
    elsewhere = ("--url", url, "--api-key", "letmein")
    with _stdio(SAMPLE.parent, "-X", "importtime", arguments=elsewhere) as process, ThreadPoolExecutor() as threads:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        log = threads.submit(imported, process.stderr)
        process.stdin.write(_lines(INITIALIZE, INITIALIZED, call(2, path=SAMPLE.name, format="json")))
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.stdin.close()
        names = log.result()
    assert "early part of the century" in answers[1]["result"]["structuredContent"]["text"]
    assert not HEAVY & names
    assert process.returncode == 0


def test_sigterm_ends_a_client_that_says_nothing() -> None:
    with _stdio(SAMPLE.parent) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(_lines(INITIALIZE))
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        # Its standard input stays open.
        assert process.wait(timeout=100) == 0


async def test_sigterm_ends_a_server_with_clients_that_wait_for_news(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "parakeet_service", "serve", "--port", "0")
    with started(command, cwd=tmp_path, MODEL_ID="embedded", MCP="true") as server:
        url = server.wait_for_line("Listening on ")
        await asyncio.to_thread(wait_until_ok, f"{url}/readyz")
        async with httpx2.AsyncClient(headers=JSON, trust_env=False, timeout=600) as client:
            first = await client.post(f"{url}/mcp", json=INITIALIZE)
            session = {"mcp-session-id": first.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
            async with client.stream("GET", f"{url}/mcp", headers=session) as waiting:
                assert waiting.status_code == 200
                assert await asyncio.to_thread(server.stop) == 0


def _mutated(chance: random.Random, message: bytes) -> bytes:
    data = bytearray(message)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[at : at + chance.randint(1, 20)] = b""
            case 1:
                data[at:at] = chance.choice([b"null", b"[]", b"{}", b'"', b"-1e999", b"\\ud800", b"\xff", b"\0"])
            case 2:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case _:
                data[at:at] = data[: chance.randrange(len(data) + 1)]
    return bytes(data).replace(b"\n", b" ")


def _messages(count: int) -> list[bytes]:
    chance = random.Random(1)
    listed: dict[str, Any] = {"jsonrpc": "2.0", "id": 3, "method": "tools/list", "params": {}}
    began = call(5, path="none.wav", keywords=["a"], track=1)
    asked = call(6, id="job_" + "0" * 32, format="srt", words=True, wait=0.01)
    for message, name in ((began, "start_transcription"), (asked, "get_transcription")):
        message["params"]["name"] = name
    calls = (call(4, path="none.wav", channels="separate", track=1), began, asked)
    given = [json.dumps(one).encode() for one in (INITIALIZE, INITIALIZED, listed, *calls)]
    return [_mutated(chance, chance.choice(given)) for _ in range(count)]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_damaged_messages_leave_no_traceback_on_standard_streams(elsewhere: bool, url_with_jobs: str) -> None:  # noqa: FBT001
    damaged = b"".join(one + b"\n" for one in _messages(2000))
    arguments = ("--url", url_with_jobs, "--api-key", "letmein") if elsewhere else ()
    with _stdio(SAMPLE.parent, arguments=arguments) as process, ThreadPoolExecutor() as threads:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        log = threads.submit(process.stderr.read)
        sent = _lines(INITIALIZE, INITIALIZED) + damaged + _lines(call(9999, path="no.wav"))
        writing = threads.submit(_write, process.stdin, sent)
        # Its input stays open until the last call is answered.
        assert any(b'"id":9999' in line for line in process.stdout)
        writing.result()
        process.stdin.close()
        process.stdout.read()
        assert b"Traceback" not in log.result()
    assert process.returncode == 0


def test_damaged_messages_leave_no_traceback_over_http(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "parakeet_service", "serve", "--port", "0")
    settings = {"MCP": "true", "LOG_FORMAT": "json", "JOBS": "on", "DATA_DIR": str(tmp_path / "data")}
    with started(command, cwd=tmp_path, MODEL_ID="embedded", **settings) as server:
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        with httpx2.Client(headers=JSON, trust_env=False, timeout=600) as client:
            for one in _messages(2000):
                assert client.post(f"{url}/mcp", content=one).status_code < 500
            assert client.post(f"{url}/mcp", json=INITIALIZE).status_code == 200
        assert server.stop() == 0
        assert not [line for line in server.lines if "Traceback" in line]
