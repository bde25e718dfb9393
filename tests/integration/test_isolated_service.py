"""The command with processes of its own: their crashes cost a restart, not the service."""

import signal
import subprocess
import sys
import time
import wave
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx2
import psutil

from .processes import SAMPLE, Server, clean_environment, started, wait_until_ok

SERVE = (sys.executable, "-m", "parakeet_service", "serve", "--model-id", "embedded", "--port", "0")


@dataclass
class Isolated:
    server: Server
    url: str

    @property
    def child(self) -> psutil.Process:
        """The process that holds the model."""
        (child,) = psutil.Process(self.server.process.pid).children()
        assert any("processes.child" in argument for argument in child.cmdline())
        return child

    def transcribe(self, recording: bytes) -> httpx2.Response:
        return httpx2.post(f"{self.url}/transcribe", files={"file": recording}, timeout=None, trust_env=False)


@contextmanager
def isolated(cwd: Path) -> Generator[Isolated]:
    with started((*SERVE, "--isolation", "process"), cwd=cwd, LOG_FORMAT="json", PROCESSING_TIMEOUT="600") as server:
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        yield Isolated(server, url)


def long_recording(times: int) -> bytes:
    with wave.open(str(SAMPLE)) as sample:
        parameters, frames = sample.getparams(), sample.readframes(sample.getnframes())
    file = BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams(parameters)
        recording.writeframes(frames * times)
    return file.getvalue()


def wait_until_it_works(process: psutil.Process) -> None:
    """Until the model's process has computed for a while; the test's own time limit is the limit."""
    before = process.cpu_times().user
    while process.cpu_times().user < before + 0.1:
        time.sleep(0.01)


def wait_until_gone(process: psutil.Process) -> None:
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def test_an_upload_whose_model_is_killed_gets_its_text_and_the_server_answers_all_the_while(tmp_path: Path) -> None:
    recording = long_recording(5)
    with isolated(tmp_path) as service, ThreadPoolExecutor() as pool:
        expected = service.transcribe(recording)
        assert expected.json()["text"].count("opinion of the committee") == 5

        upload = pool.submit(service.transcribe, recording)
        victim = service.child
        wait_until_it_works(victim)
        victim.kill()
        alive, reasons = 0, set[str]()
        while not upload.done():
            assert httpx2.get(f"{service.url}/healthz", trust_env=False).is_success
            alive += 1
            ready = httpx2.get(f"{service.url}/readyz", trust_env=False)
            if not ready.is_success:
                reasons.add(ready.json()["code"])

        assert alive > 1
        assert reasons == {"model_not_ready"}
        assert upload.result().is_success
        assert upload.result().json() == expected.json()
        metrics = httpx2.get(f"{service.url}/metrics", trust_env=False).text
        batches = [line for line in metrics.splitlines() if line.startswith("parakeet_batch_windows_count")]
        assert [float(line.split()[-1]) > 0 for line in batches] == [True]
        assert service.child.pid != victim.pid
        assert service.server.stop() == 0
        assert sum("model_process_died" in line for line in service.server.lines) == 1


def test_on_sigterm_to_all_its_processes_it_finishes_what_runs(tmp_path: Path) -> None:
    with isolated(tmp_path) as service, ThreadPoolExecutor() as pool:
        child = service.child
        upload = pool.submit(service.transcribe, long_recording(20))
        wait_until_it_works(child)
        # As a service manager does.
        child.send_signal(signal.SIGTERM)
        service.server.process.send_signal(signal.SIGTERM)

        assert upload.result().is_success
        assert upload.result().json()["text"].count("opinion of the committee") == 20
        assert service.server.wait() == 0
        assert not child.is_running()
        assert not any('"error"' in line for line in service.server.lines)


def test_a_server_that_is_killed_at_work_leaves_no_process(tmp_path: Path) -> None:
    with isolated(tmp_path) as service, ThreadPoolExecutor() as pool:
        child = service.child
        upload = pool.submit(service.transcribe, long_recording(8))
        wait_until_it_works(child)
        service.server.process.kill()

        wait_until_gone(child)
        assert isinstance(upload.exception(), httpx2.TransportError)


def test_the_detectors_processes_change_no_text_and_go_with_the_service(tmp_path: Path) -> None:
    recording = long_recording(5)
    answers: list[object] = []
    for count in ("0", "2"):
        with started((*SERVE, "--vad-processes", count), cwd=tmp_path, LOG_FORMAT="json") as server:
            url = server.wait_for_line("Listening on ")
            wait_until_ok(f"{url}/readyz")
            children = psutil.Process(server.process.pid).children()
            assert len(children) == int(count)
            for child in children[:1]:
                child.kill()
            answer = httpx2.post(f"{url}/transcribe", files={"file": recording}, timeout=None, trust_env=False)
            answers.append(answer.json())
            children = psutil.Process(server.process.pid).children()
            assert len(children) == int(count)
            assert server.stop() == 0
            assert not any(child.is_running() for child in children)
            assert sum("vad_process_died" in line for line in server.lines) == len(children[:1])
    assert answers[0] == answers[1]


def test_a_model_that_cannot_be_loaded_ends_the_service(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    with started(
        (*SERVE[:4], "--model-id", str(tmp_path), "--port", "0", "--isolation", "process"), cwd=tmp_path
    ) as server:
        assert server.wait() == 1
        assert any("model.safetensors is damaged" in line for line in server.lines)


WITHOUT_MLX = """
import asyncio, sys
import numpy as np
from parakeet_service.bootstrap.container import Container
from parakeet_service.config.settings import Settings

async def main():
    model = Container(settings=Settings()).model()
    await model.start()
    assert model.describe().id == "embedded"
    await model.transcribe(np.zeros(16000, np.float32))
    await model.aclose()

asyncio.run(main())
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"mlx", "parakeet_mlx", "scipy_openblas32"}))
"""


def test_the_service_itself_does_not_load_mlx(tmp_path: Path) -> None:
    loaded = {
        isolation: subprocess.run(
            (sys.executable, "-c", WITHOUT_MLX),
            cwd=tmp_path,
            env=clean_environment(MODEL_ID="embedded", ENGINE="mlx", ISOLATION=isolation, LOG_LEVEL="ERROR"),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")[-2]
        for isolation in ("none", "process")
    }
    assert "mlx" in loaded["none"].split()
    assert loaded["process"] == ""
