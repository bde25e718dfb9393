"""The command with several processes that speak HTTP: they are one service."""

import asyncio
import json
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest
import websockets

from .processes import SAMPLE, Server, started
from .test_isolated_service import SERVE, long_recording, wait_until_gone, wait_until_it_works

COUNT = 3


@dataclass
class Service:
    server: Server
    url: str

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.server.process.pid).children()

    def fronts(self) -> list[psutil.Process]:
        """The processes beside the first one that listen, too."""
        port = int(self.url.rpartition(":")[2])
        return [child for child in self.children() if _listens(child, port)]

    def model(self) -> psutil.Process:
        fronts = {front.pid for front in self.fronts()}
        (model,) = (child for child in self.children() if child.pid not in fronts)
        return model

    def connect(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=600, trust_env=False)

    def transcribe(self, recording: bytes) -> httpx2.Response:
        with self.connect() as client:
            return client.post("/transcribe", files={"file": recording})

    def clients_of_all(self) -> Iterator[httpx2.Client]:
        """A client with a connection to each process, for each in turn: `served` tells them apart."""
        seen = set[int]()
        while len(seen) < COUNT:
            with self.connect() as client:
                client.get("/healthz")
                pid = self.holder_of(client)
                if pid not in seen:
                    seen.add(pid)
                    yield client

    def holder_of(self, client: httpx2.Client) -> int:
        """The process at the other end of the one connection of `client`."""
        (ours,) = {
            connection.laddr.port
            for connection in psutil.Process().net_connections("tcp")
            if connection.raddr
            and connection.raddr.port == int(self.url.rpartition(":")[2])
            and connection.status == psutil.CONN_ESTABLISHED
        }
        del client
        for process in (psutil.Process(self.server.process.pid), *self.fronts()):
            if any(connection.raddr and connection.raddr.port == ours for connection in process.net_connections("tcp")):
                return process.pid
        raise AssertionError("nobody holds it")


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        connections = process.net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections)


@contextmanager
def serving(cwd: Path, **settings: str) -> Generator[Service]:
    given = {"LOG_FORMAT": "json", "PROCESSING_TIMEOUT": "600", "HTTP_PROCESSES": str(COUNT)} | settings
    with started(SERVE, cwd=cwd, **given) as server:
        service = Service(server, server.wait_for_line("Listening on "))
        for _ in range(COUNT - 1):
            server.wait_for_line("http_process_ready")
        while len(service.fronts()) < COUNT - 1:
            pass
        for client in service.clients_of_all():
            while not client.get("/readyz").is_success:
                pass
        yield service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    place = tmp_path_factory.mktemp("service")
    with serving(place, JOBS="on", DATA_DIR=str(place / "data"), MAX_STREAMS="2") as service:
        yield service


def test_all_give_the_same_text_and_count_together(service: Service) -> None:
    texts = [
        client.post("/transcribe", files={"file": SAMPLE.read_bytes()}).json()["text"]
        for client in service.clients_of_all()
    ]
    assert len(set(texts)) == 1
    assert "books were printed" in texts[0]
    shown = [_figures(client) for client in service.clients_of_all()]
    answered = 'parakeet_http_request_duration_seconds_count{method="POST",route="/transcribe",status="200"}'
    assert [figures[answered] for figures in shown] == [COUNT] * COUNT
    assert [figures["parakeet_batch_windows_sum"] for figures in shown] == [
        shown[0]["parakeet_batch_windows_sum"]
    ] * COUNT
    assert shown[0]["parakeet_batch_windows_sum"] >= COUNT
    assert [sum(name.startswith("parakeet_model_info") for name in figures) for figures in shown] == [1] * COUNT


def _figures(client: httpx2.Client) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_the_short_lived_key_of_one_is_good_for_all(service: Service) -> None:
    async def greeted(secret: str) -> str:
        address = service.url.replace("http", "ws", 1) + "/v1/realtime?intent=transcription"
        async with websockets.connect(address, additional_headers={"authorization": f"Bearer {secret}"}) as session:
            return str(json.loads(await session.recv())["type"])

    with service.connect() as client:
        secret = client.post("/v1/realtime/client_secrets", json={}).json()["value"]
    # Each connection goes to whoever takes it.
    greetings = Counter(asyncio.run(greeted(secret)) for _ in range(4 * COUNT))
    assert len(greetings) == 1
    assert "error" not in greetings


def test_live_sessions_are_limited_together(service: Service) -> None:
    async def open_all() -> list[str]:
        address = service.url.replace("http", "ws", 1) + "/ws"
        told = list[str]()
        sessions = list[websockets.ClientConnection]()
        for _ in range(3 * COUNT):
            session = await websockets.connect(address)
            sessions.append(session)
            told.append(str(json.loads(await session.recv()).get("code", "open")))
        for session in sessions:
            await session.close()
        return told

    assert Counter(asyncio.run(open_all()))["open"] == 2


def test_a_job_is_known_to_all(service: Service) -> None:
    recording = SAMPLE.read_bytes()
    ids = [client.post("/v1/jobs", files={"file": recording}).json()["id"] for client in service.clients_of_all()]
    texts = set[str]()
    for client in service.clients_of_all():
        for job_id in ids:
            while client.get(f"/v1/jobs/{job_id}", params={"wait": 30}).json()["status"] != "completed":
                pass
            texts.add(client.get(f"/v1/jobs/{job_id}/result", params={"response_format": "text"}).text)
            with client.stream("GET", f"/v1/jobs/{job_id}/events") as events:
                assert "job.completed" in events.read().decode()
    assert len(texts) == 1
    assert "books were printed" in texts.pop()
    for client, job_id in zip(service.clients_of_all(), ids, strict=True):
        assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    with service.connect() as client:
        assert client.get("/v1/jobs").json()["data"] == []


def test_one_that_is_killed_is_replaced_and_costs_its_own_requests_alone(tmp_path: Path) -> None:
    recording = long_recording(3)
    with serving(tmp_path) as service, ThreadPoolExecutor(12) as pool:
        victim = service.fronts()[0]
        uploads = [pool.submit(service.transcribe, recording) for _ in range(12)]
        wait_until_it_works(service.model())
        victim.kill()
        failures = [upload.exception() for upload in uploads]
        texts = {
            upload.result().json()["text"] for upload, failure in zip(uploads, failures, strict=True) if not failure
        }
        assert all(failure is None or isinstance(failure, httpx2.TransportError) for failure in failures)
        assert len(texts) == 1
        service.server.wait_for_line("http_process_died")
        while len(service.fronts()) < COUNT - 1:
            pass
        assert {
            client.post("/transcribe", files={"file": recording}).json()["text"] for client in service.clients_of_all()
        } == texts
        assert service.server.stop() == 0


def test_a_process_that_cannot_join_says_that_the_common_directory_is_gone(tmp_path: Path) -> None:
    # Short: a socket lies below.
    with tempfile.TemporaryDirectory(prefix="prk", dir="/tmp") as place, serving(tmp_path, TMPDIR=place) as service:
        (common,) = Path(place).glob("parakeet-common-*")
        shutil.rmtree(common)
        service.fronts()[0].kill()
        service.server.wait_for_line("http_process_stillborn")
        (reason, *_) = [
            json.loads(line)["reason"] for line in service.server.lines if '"http_process_stillborn"' in line
        ]
        assert f"The directory {common}," in reason
        assert "restart the service" in reason
        assert "model" not in reason
        # Those that serve go on.
        with service.connect() as client:
            assert client.post("/transcribe", files={"file": SAMPLE.read_bytes()}).is_success


def test_a_model_that_is_killed_costs_none_of_them_an_answer(tmp_path: Path) -> None:
    recording = long_recording(3)
    with serving(tmp_path) as service, ThreadPoolExecutor(9) as pool:
        uploads = [pool.submit(service.transcribe, recording) for _ in range(9)]
        model = service.model()
        wait_until_it_works(model)
        model.kill()
        answers = [upload.result() for upload in uploads]
        # Who comes while it is started again is turned away, and told when to return.
        turned_away = [answer for answer in answers if answer.status_code == 503]
        assert all("retry-after" in answer.headers for answer in turned_away)
        assert {answer.status_code for answer in answers} <= {200, 503}
        texts = {answer.json()["text"] for answer in answers if answer.is_success}
        assert len(texts) == 1
        for client in service.clients_of_all():
            while not client.get("/readyz").is_success:
                pass
            assert client.post("/transcribe", files={"file": recording}).json()["text"] in texts
        assert service.server.stop() == 0


def test_on_sigterm_to_all_of_them_each_finishes_what_it_has(tmp_path: Path) -> None:
    recording = SAMPLE.read_bytes()
    with serving(tmp_path) as service, ThreadPoolExecutor(9) as pool:
        expected = service.transcribe(recording).json()
        children, model = service.children(), service.model()
        model.suspend()
        uploads = [pool.submit(service.transcribe, recording) for _ in range(9)]
        with service.connect() as client:
            while _figures(client)['parakeet_uploads{state="answering"}'] < len(uploads):
                pass
        # As a service manager does.
        for child in children:
            child.send_signal(signal.SIGTERM)
        service.server.process.send_signal(signal.SIGTERM)
        model.resume()
        assert [upload.result().json() for upload in uploads] == [expected] * len(uploads)
        assert service.server.wait() == 0
        assert not any(child.is_running() for child in children)
        assert not [line for line in service.server.lines if '"error"' in line or '"critical"' in line]


def test_an_idle_first_process_waits_for_what_the_others_have(tmp_path: Path) -> None:
    recording = SAMPLE.read_bytes()
    with serving(tmp_path) as service, ThreadPoolExecutor() as pool:
        expected = service.transcribe(recording).json()
        model = service.model()
        fronts = {front.pid for front in service.fronts()}
        for client in service.clients_of_all():
            if service.holder_of(client) in fronts:
                model.suspend()
                upload = pool.submit(client.post, "/transcribe", files={"file": recording})
                with service.connect() as asking:
                    while _figures(asking)['parakeet_uploads{state="answering"}'] < 1:
                        pass
                service.server.process.send_signal(signal.SIGTERM)
                service.server.wait_for_line("draining")
                model.resume()
                assert upload.result().json() == expected
                break
        assert service.server.wait() == 0


def test_a_full_disk_ends_no_process(tmp_path: Path) -> None:
    # Not below `tmp_path`, which is too long for a socket.
    place = Path(tempfile.mkdtemp())
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place), capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        with serving(tmp_path, TMPDIR=str(place)) as service:
            with suppress(OSError), (place / "fill").open("wb") as fill:
                while fill.write(bytes(1 << 16)):
                    fill.flush()
            for _ in range(20):
                for path in ("/", "/healthz", "/config", "/nowhere", "/docs", "/v1/models"):
                    httpx2.get(f"{service.url}{path}", trust_env=False)
                with service.connect() as client:
                    answer = client.post("/transcribe", files={"file": SAMPLE.read_bytes()})
                assert answer.status_code in (200, 507)
            assert service.server.stop() == 0
            assert not any("died" in line for line in service.server.lines)
    finally:
        subprocess.run(("umount", "--lazy", place), check=True)
        place.rmdir()


def test_none_outlives_a_first_one_that_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        children = service.children()
        assert len(children) == COUNT
        service.server.process.kill()
        for child in children:
            wait_until_gone(child)


def test_a_model_that_cannot_be_loaded_ends_them_all(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    command = (*SERVE[:4], "--model-id", str(tmp_path), "--port", "0", "--http-processes", str(COUNT))
    with started(command, cwd=tmp_path) as server:
        assert server.wait() == 1
        assert any("model.safetensors is damaged" in line for line in server.lines)


def test_a_port_that_is_taken_is_told_once(service: Service, tmp_path: Path) -> None:
    port = service.url.rpartition(":")[2]
    command = (*SERVE[:-2], "--port", port, "--http-processes", str(COUNT))
    with started(command, cwd=tmp_path) as server:
        assert server.wait() == 1
        assert sum("Cannot listen" in line for line in server.lines) == 1
        assert not any("http_process" in line for line in server.lines)
