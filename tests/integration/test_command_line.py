import json
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.conftest import SharedServer

from .processes import HANGS_S, SAMPLE, clean_environment, run, started, wait_until_ok

SERVE = (sys.executable, "-m", "parakeet_service", "serve", "--model-id", "embedded", "--port", "0")


@pytest.fixture
def _heeds_control_c() -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """A shell that runs the tests in the background has them ignore Control-C, and so what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_it_listens_becomes_ready_and_exits_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with started(SERVE, cwd=tmp_path) as server:
        address = server.wait_for_line("Listening on ")
        wait_until_ok(f"{address}/readyz")

        assert server.stop(number) == 0
        assert address.startswith("http://127.0.0.1:")
        assert not any("WARNING: " in line for line in server.lines)


def test_serve_can_be_stopped_while_it_loads(tmp_path: Path) -> None:
    with started(SERVE, cwd=tmp_path) as server:
        server.wait_for_line("Listening on ")

        assert server.stop() == 0


def test_serve_exits_with_0_if_it_is_told_twice(tmp_path: Path) -> None:
    with started(SERVE, cwd=tmp_path) as server:
        server.wait_for_line("Listening on ")
        server.process.send_signal(signal.SIGTERM)

        assert server.stop(signal.SIGINT) == 0


def test_serve_exits_with_1_if_the_model_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    command = (*SERVE[:4], "--model-id", str(tmp_path), "--port", "0")

    with started(command, cwd=tmp_path) as server:
        assert server.wait() == 1
        assert any("model.safetensors is damaged" in line for line in server.lines)


@pytest.mark.parametrize(("settings", "warns"), [({}, True), ({"API_KEYS": "secret"}, False)])
def test_serve_warns_of_an_open_door(tmp_path: Path, settings: dict[str, str], *, warns: bool) -> None:
    with started((*SERVE, "--host", "0.0.0.0"), cwd=tmp_path, **settings) as server:  # noqa: S104 - what is tested
        server.wait_for_line("Listening on ")

        assert any("WARNING: 0.0.0.0 " in line for line in server.lines) is warns


def test_a_setting_that_cannot_be_used_stops_the_start_with_one_line(tmp_path: Path) -> None:
    ran = run("serve", cwd=tmp_path, BATCH_SIZE="many")

    assert ran.returncode == 2
    assert ran.stderr.startswith("parakeet-service serve: BATCH_SIZE: ")
    assert ran.stderr.count("\n") == 1


def test_a_setting_that_cannot_be_used_stops_plain_uvicorn_with_one_line(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "uvicorn", "parakeet_service.main:app", "--port", "0")

    with started(command, cwd=tmp_path, PORT="harbour") as server:
        assert server.wait() == 2
        (line,) = server.lines
        assert line.startswith("parakeet-service: PORT: ")


def test_transcribe_reads_what_it_can(tmp_path: Path) -> None:
    (tmp_path / "noise.mp3").write_bytes(bytes(range(256)) * 64)

    ran = run("transcribe", "noise.mp3", str(SAMPLE), cwd=tmp_path, MODEL_ID="embedded")

    assert ran.returncode == 3
    assert "books were printed in the city" in ran.stdout
    assert ran.stdout.count("\n") == 1
    assert "noise.mp3: " in ran.stderr


def test_doctor_finds_a_working_machine(tmp_path: Path) -> None:
    ran = run("doctor", "--model-id", "embedded", "--port", "0", cwd=tmp_path, API_KEYS="secret")

    assert ran.returncode == 0, ran.stdout
    for name in ("Python", "engine", "ffmpeg", "VAD", "model", "API_KEYS"):
        assert f"  {name} " in ran.stdout
    assert "secret" not in ran.stdout


def test_doctor_tells_of_mlx_where_it_computes(tmp_path: Path) -> None:
    ran = run("doctor", "--model-id", "embedded", "--port", "0", "--engine", "mlx", cwd=tmp_path)

    assert ran.returncode == 0, ran.stdout
    for name in ("engine", "BLAS", "MLX"):
        assert f"  {name} " in ran.stdout


def test_doctor_says_what_keeps_the_model_from_being_had(tmp_path: Path) -> None:
    ran = run("doctor", "--model-id", "nobody/nothing", "--offline", cwd=tmp_path, HF_HOME=str(tmp_path))

    assert ran.returncode == 1
    assert "✗ model" in ran.stdout


def test_bench_measures_the_bundled_recording(tmp_path: Path) -> None:
    ran = run("bench", "--model-id", "embedded", "--rounds", "1", "--json", cwd=tmp_path, OPENBLAS_NUM_THREADS="1")

    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["model"] == "embedded"
    assert found["device"]
    assert found["audio_s"] > 10
    assert all(found["at_once"][number]["real_time_factor"] > 0 for number in ("1", "4", "16"))
    assert found["most_resident_mb"] > 50


@pytest.fixture
def live_url(shared_server: SharedServer) -> str:
    _, address = shared_server(API_KEYS="s3cret")
    return address.replace("http", "ws", 1) + "/ws"


@pytest.mark.parametrize("given", ["file", "WAV", "raw"])
def test_stream_shows_what_a_running_service_hears(live_url: str, tmp_path: Path, given: str) -> None:
    content = {"file": b"", "WAV": SAMPLE.read_bytes(), "raw": SAMPLE.read_bytes()[44:]}[given]
    command = (sys.executable, "-m", "parakeet_service", "stream", str(SAMPLE) if given == "file" else "-")

    ran = subprocess.run(
        (*command, "--fast", "--url", live_url),
        cwd=tmp_path,
        env=clean_environment(API_KEY="s3cret"),
        input=content,
        capture_output=True,
        timeout=HANGS_S,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, b"")
    text = ran.stdout.decode()
    assert "books were printed in the city" in text
    assert "before the end of the year" in text


def test_stream_says_why_it_was_refused(live_url: str, tmp_path: Path) -> None:
    ran = run("stream", str(SAMPLE), "--url", live_url, "--api-key", "wrong", cwd=tmp_path)

    assert ran.returncode == 1
    assert "401" in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.usefixtures("_heeds_control_c")
def test_stream_ends_with_130_after_control_c_though_more_could_come(live_url: str, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "parakeet_service", "stream", "-", "--json", "--url", live_url)
    environment = clean_environment(API_KEY="s3cret")
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(SAMPLE.read_bytes()[44 : 44 + 32000 * 5])
        process.stdin.flush()
        while json.loads(process.stdout.readline())["type"] != "partial":
            pass
        process.send_signal(signal.SIGINT)
        *_, last = map(json.loads, process.stdout)
        assert process.wait(timeout=HANGS_S) == 130
    assert last["type"] == "final"
    assert last["text"]


def test_demo_shows_both_transcripts_and_stops_the_service(tmp_path: Path) -> None:
    ran = run("demo", cwd=tmp_path)

    assert ran.returncode == 0, ran.stderr
    file, *live = ran.stdout.splitlines()
    finals = " ".join(line for line in live if not line.startswith("  "))
    for text in (file, finals):
        assert "books were printed in the city" in text
        assert "before the end of the year" in text
    assert any(line.endswith("]") for line in live), "no draft was shown"
    assert "small embedded model" in ran.stderr
