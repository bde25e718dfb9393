"""Traces as an operator gets them: by OpenTelemetry's variables, from a real process, at a collector."""

import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2

from tests.integration.processes import SAMPLE, clean_environment, started, wait_until_ok


@contextmanager
def collector() -> Generator[tuple[str, list[bytes]]]:
    """An address that takes traces, and those that it has taken."""
    taken: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            taken.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", taken
        finally:
            server.shutdown()
            thread.join()


def test_what_was_traced_has_been_sent_when_the_service_ends(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "parakeet_service", "serve", "--model-id", "embedded", "--port", "0")
    with (
        collector() as (endpoint, taken),
        started(command, cwd=tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as server,
    ):
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        answer = httpx2.post(f"{url}/transcribe", files={"file": SAMPLE.read_bytes()}, timeout=None, trust_env=False)
        assert answer.status_code == 200
        assert server.stop() == 0
    sent = b"".join(taken)
    assert b"parakeet-service" in sent
    for name in (b"load model", b"POST /transcribe", b"decode", b"transcribe"):
        assert name in sent


BUILD = (
    "import sys; {before}; from parakeet_service.bootstrap.app import build_app; build_app();"
    " print('opentelemetry.sdk' in sys.modules)"
)


def built(tmp_path: Path, *, before: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-c", BUILD.format(before=before))
    environment = clean_environment(MODEL_ID="embedded", LOG_FORMAT="json", **variables)
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)


def test_without_the_variables_nothing_of_it_is_imported(tmp_path: Path) -> None:
    assert built(tmp_path, before="pass").stdout == "False\n"


def test_without_the_extra_the_service_starts_and_says_what_is_missing(tmp_path: Path) -> None:
    missing = "sys.modules['opentelemetry.sdk'] = sys.modules['opentelemetry.exporter'] = None"
    ran = built(tmp_path, before=missing, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert "traces are disabled" in ran.stderr
    assert "pip install 'parakeet-service[tracing]'" in ran.stderr
