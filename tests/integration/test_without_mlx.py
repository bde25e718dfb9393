"""The whole service where MLX cannot be installed, nor what else Windows lacks."""

import subprocess
import sys
import wave
from collections.abc import Generator
from pathlib import Path

import httpx2
import pytest
from websockets.sync.client import connect

from tests.conformance.realtime import COMMIT, COMPLETED, appends, talk, update
from tests.integration.processes import HANGS_S, SAMPLE, clean_environment, started, wait_until_ok

WITHOUT = """
import importlib.machinery, sys

MISSING = {"fcntl", "librosa", "mlx", "parakeet_mlx", "resource", "scipy_openblas32", "uvloop"}

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in MISSING else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
for name in MISSING & set(sys.modules):
    del sys.modules[name]

import asyncio, os, signal

def no_signal_handlers(*_arguments):
    raise NotImplementedError

asyncio.SelectorEventLoop.add_signal_handler = no_signal_handlers
for place, name in (
    (asyncio, "open_unix_connection"),
    (asyncio, "start_unix_server"),
    (os, "sched_getaffinity"),
    (os, "sysconf"),
    (signal, "SIGHUP"),
    (signal, "SIGUSR1"),
):
    delattr(place, name)
"""
SERVE = f"""{WITHOUT}
from parakeet_service.__main__ import main
sys.argv = ["parakeet-service", *sys.argv[1:]]
sys.exit(main())
"""
IMPORT = f"""{WITHOUT}
import pkgutil, parakeet_service
names = [module.name for module in pkgutil.walk_packages(parakeet_service.__path__, "parakeet_service.")]
names = [name for name in names if ".parakeet_mlx" not in name and not name.endswith(("__main__", ".main"))]
# The package `mcp` needs fcntl, unless the platform is said to be Windows.
names = [name for name in names if ".mcp" not in name]
for name in names:
    importlib.import_module(name)
print(len(names), *MISSING & set(sys.modules))
"""
WORDS = ("books", "printed", "city")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    directory = tmp_path_factory.mktemp("without-mlx")
    command = (sys.executable, "-c", SERVE, "serve", "--port", "0")
    with started(command, cwd=directory, MODEL_ID="embedded", CACHE_DIR=str(directory / "cache")) as server:
        address = server.wait_for_line("Listening on ")
        wait_until_ok(f"{address}/readyz")
        yield address
        assert server.stop() == 0


def pcm() -> bytes:
    with wave.open(str(SAMPLE)) as recording:
        frames: bytes = recording.readframes(recording.getnframes())
        return frames


def test_imports_nothing_that_is_not_there(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    count, *loaded = ran.stdout.split()
    assert int(count) > 100
    assert loaded == []


def test_says_what_computes(url: str) -> None:
    model = httpx2.get(f"{url}/config", trust_env=False).json()["model"]
    assert (model["engine"], model["precision"], model["device"]) == ("onnx", "int8", "cpu")


def test_reads_recordings(url: str) -> None:
    files = {"file": ("demo.wav", SAMPLE.read_bytes())}
    own = httpx2.post(f"{url}/transcribe", files=files, timeout=HANGS_S, trust_env=False)
    openai = httpx2.post(
        f"{url}/v1/audio/transcriptions",
        files=files,
        data={"model": "whisper-1", "keywords[]": "century"},
        timeout=HANGS_S,
        trust_env=False,
    )
    for answer in (own, openai):
        assert answer.status_code == 200, answer.text
        assert all(word in answer.json()["text"] for word in WORDS)


def test_reads_live_audio(url: str) -> None:
    heard: list[str] = []
    with connect(f"{url.replace('http', 'ws', 1)}/ws", proxy=None) as socket:
        for start in range(0, len(samples := pcm()), 32000):
            socket.send(samples[start : start + 32000])
        socket.send('{"type": "close"}')
        heard.extend(str(message) for message in socket)
    assert any(all(word in message for word in WORDS) for message in heard if '"final"' in message)


def test_reads_openais_realtime_protocol(url: str) -> None:
    steps = [update(turn_detection=None), *appends(pcm()[: 8 * 32000], rate_hz=16000, piece_s=1), COMMIT, COMPLETED]
    assert any(dialogue for dialogue in talk(url, steps).transcripts)


def test_shows_the_page(url: str) -> None:
    answer = httpx2.get(f"{url}/", trust_env=False, follow_redirects=True)
    assert answer.status_code == 200
    assert "<html" in answer.text


def test_doctor_tells_the_engine(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SERVE, "doctor", "--model-id", "embedded", "--port", "0"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "engine             onnx, int8" in ran.stdout
    assert "MLX " not in ran.stdout
