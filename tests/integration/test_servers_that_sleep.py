"""A server that slept for longer than its lease, and wakes while another reads its job."""

import base64
import signal
import threading
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sqlalchemy import text

from parakeet_service.adapters.jobs.database import postgresql_engine
from tests.integration.job_servers import JobServer, job_server, recording
from tests.integration.postgresql import postgresql

_KNOWN = 'parakeet_job_windows_total{source="known"}'


@contextmanager
def _receiver() -> Generator[tuple[str, list[str]]]:
    """A URL, and the ids of the webhooks that came to it."""
    ids: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            ids.append(self.headers["webhook-id"])
            self.send_response(204)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", ids
        finally:
            server.shutdown()
            serving.join()


def _server(cwd: Path, name: str, url: str) -> AbstractContextManager[JobServer]:
    return job_server(
        cwd,
        cwd / name,
        JOBS_DATABASE=url,
        JOB_LEASE="2",
        JOB_WORKERS="1",
        WEBHOOK_SECRET="whsec_" + base64.b64encode(bytes(32)).decode(),
        URL_ALLOW_HTTP="true",
        URL_ALLOWED_HOSTS="127.0.0.1",
    )


def _wait_until_done(server: JobServer, job_id: str, seconds: float) -> None:
    """Until so much of the job has been read; it must not have ended."""
    while (job := server.job(job_id))["progress"]["done_s"] < seconds:
        assert job["status"] in ("queued", "running")
        time.sleep(0.02)
    assert job["status"] == "running"


def test_a_server_that_wakes_leaves_its_job_to_the_one_that_took_it(tmp_path: Path) -> None:
    data = recording(60)
    with postgresql() as url, _receiver() as (webhook_url, webhook_ids), _server(tmp_path, "a", url) as sleeper:
        plain = sleeper.text(sleeper.submit(data))
        job_id = sleeper.submit(data, webhook_url=webhook_url)
        _wait_until_done(sleeper, job_id, 100)
        _put_to_sleep(sleeper, url)
        try:
            with _server(tmp_path, "b", url) as other:
                while not other.counted(_KNOWN):
                    time.sleep(0.02)
                holder = _holder(url, job_id)
                # It wakes in the middle: what it was about to write is about a job that another reads.
                sleeper.server.process.send_signal(signal.SIGCONT)
                assert other.job(job_id)["status"] == "running"
                while other.job(job_id)["status"] == "running":
                    assert _holder(url, job_id) in (holder, None)
                    time.sleep(0.02)
                assert other.text(job_id) == plain
                while not webhook_ids:
                    time.sleep(0.05)
                ended = [
                    sum('"job ended"' in line and job_id in line for line in one.server.lines)
                    for one in (sleeper, other)
                ]
                assert ended == [0, 1]
                assert len(set(webhook_ids)) == 1
            # It goes on serving, and nobody else is left to read this.
            assert sleeper.text(sleeper.submit(data)) == plain
            assert not any('"jobs failed"' in line for line in sleeper.server.lines)
        finally:
            sleeper.server.process.send_signal(signal.SIGCONT)


def _put_to_sleep(server: JobServer, url: str) -> None:
    """Stop it between two transactions: one that it slept in would be undone, as test_jobs_on_postgresql.py shows."""
    engine = postgresql_engine(url)
    try:
        while True:
            server.server.process.send_signal(signal.SIGSTOP)
            with engine.connect() as connection:
                active = connection.scalar(
                    text(
                        "SELECT count(*) FROM pg_stat_activity "
                        "WHERE backend_type = 'client backend' AND pid != pg_backend_pid() AND xact_start IS NOT NULL"
                    )
                )
            if not active:
                return
            server.server.process.send_signal(signal.SIGCONT)
            time.sleep(0.01)
    finally:
        engine.dispose()


def _holder(url: str, job_id: str) -> str | None:
    """The name of the server that reads the job."""
    engine = postgresql_engine(url)
    try:
        with engine.connect() as connection:
            name: str | None = connection.scalar(text("SELECT server FROM jobs WHERE id = :id"), {"id": job_id})
            return name
    finally:
        engine.dispose()
