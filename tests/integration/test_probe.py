"""A new entrypoint is one folder: see `tests/probe`."""

import ast
import base64
import re
import socket
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.integration.processes import SAMPLE, Server, started, wait_until_ok

_SERVER = Path(__file__).parents[1] / "probe" / "line_server.py"
_WORDS = "committee that the work should be completed"


class Probe:
    def __init__(self, server: Server, line_port: int, url: str) -> None:
        self.server = server
        self.port = line_port
        self.url = url

    def ask(self, *messages: bytes) -> list[str]:
        """Send everything, and hear until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"".join(messages))
            return connection.makefile("r", encoding="utf-8").read().splitlines()

    def metric(self, name: str) -> float:
        text = wait_until_ok(f"{self.url}/metrics").text
        (value,) = re.findall(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE)
        return float(value)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Generator[Probe]:
    line_port, http_port = free_port(), free_port()
    command = (sys.executable, "-m", "tests.probe", str(line_port), str(http_port))
    root = Path(__file__).parents[2]
    with started(
        command,
        cwd=tmp_path_factory.mktemp("probe"),
        MODEL_ID="embedded",
        AUDIO_RATE_LIMIT="60/day",
        PYTHONPATH=str(root),
    ) as server:
        url = f"http://127.0.0.1:{http_port}"
        wait_until_ok(f"{url}/readyz")
        yield Probe(server, line_port, url)
        assert server.stop() == 0, "".join(server.lines)


def lines_of_pcm() -> list[bytes]:
    pcm = SAMPLE.read_bytes()[44:]
    return [base64.b64encode(pcm[at : at + 32_000]) + b"\n" for at in range(0, len(pcm), 32_000)]


def test_transcribes_counts_and_charges_as_http_does(probe: Probe) -> None:
    recording = SAMPLE.read_bytes()
    (text,) = probe.ask(f"file {len(recording)}\n".encode(), recording)
    assert _WORDS in text
    assert probe.metric('parakeet_audio_seconds_total{source="file"}') == pytest.approx(14.4, abs=0.1)

    ready, *finals = probe.ask(b"live\n", *lines_of_pcm(), b"\n")
    assert ready == "ready"
    assert _WORDS in " ".join(finals)
    assert probe.metric('parakeet_audio_seconds_total{source="live"}') == pytest.approx(14.4, abs=0.1)

    # 60 s a day, of which 30 are charged: the third time ends in the middle, and the fourth is not admitted.
    ready, *finals = probe.ask(b"live\n", *lines_of_pcm() * 4)
    assert finals[-1] == "error: rate_limit_exceeded"
    assert _WORDS in " ".join(finals[:-1])
    assert probe.ask(b"live\n") == ["error: rate_limit_exceeded"]


def test_imports_nothing_but_the_core() -> None:
    imported = {
        node.module
        for node in ast.walk(ast.parse(_SERVER.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("parakeet_service")
    }
    assert imported
    assert all(name.split(".")[1] in {"application", "domain"} for name in imported)


async def test_sigterm_tells_what_was_said_and_ends(tmp_path: Path) -> None:
    line_port, http_port = free_port(), free_port()
    command = (sys.executable, "-m", "tests.probe", str(line_port), str(http_port))
    root = Path(__file__).parents[2]
    with started(command, cwd=tmp_path, MODEL_ID="embedded", PYTHONPATH=str(root)) as server:
        wait_until_ok(f"http://127.0.0.1:{http_port}/readyz")
        with socket.create_connection(("127.0.0.1", line_port)) as connection:
            answers = connection.makefile("r", encoding="utf-8")
            connection.sendall(b"live\n")
            assert answers.readline() == "ready\n"
            connection.sendall(b"".join(lines_of_pcm()))
            said = answers.readline()
            assert server.stop() == 0, "".join(server.lines)
            said += answers.read()
    assert "before the end of the year" in said
