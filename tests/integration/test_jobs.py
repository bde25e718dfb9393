"""Jobs on real servers that are killed."""

import signal
import time
from pathlib import Path

from tests.integration.job_servers import call, job_server, recording
from tests.integration.processes import run


def test_a_job_ends_with_the_same_text_after_kill_9(tmp_path: Path) -> None:
    data = recording(12)
    with job_server(tmp_path, tmp_path / "data") as server:
        plain = server.text(server.submit(data))
        windows = server.counted('parakeet_job_windows_total{source="read"}')
        job_id = server.submit(data, metadata='{"meeting": 42}')
        while server.job(job_id)["progress"]["done_s"] < 30:
            time.sleep(0.02)
        server.kill()
    with job_server(tmp_path, tmp_path / "data") as server:
        assert server.text(job_id) == plain
        assert server.ended(job_id)["metadata"] == {"meeting": 42}
        known = server.counted('parakeet_job_windows_total{source="known"}')
        read = server.counted('parakeet_job_windows_total{source="read"}')
        assert known >= 3
        # No window is lost, and none is read twice: what was in hand is in neither of the two that were added.
        assert known + read == windows
        assert not list((tmp_path / "data" / "recordings").iterdir())
        srt = server.client.get(f"/v1/jobs/{job_id}/result", params={"response_format": "srt"}).text
        assert srt.startswith("1\n00:00:0")


def test_each_channel_goes_on_where_it_was_after_kill_9(tmp_path: Path) -> None:
    data = call(6)
    asked = {"channels": "separate", "response_format": "diarized_json"}
    with job_server(tmp_path, tmp_path / "data") as server:
        form = {**asked, "model": "parakeet"}
        plain = server.client.post("/v1/audio/transcriptions", files={"file": ("a.wav", data)}, data=form).json()
        assert {one["speaker"] for one in plain["segments"]} == {"A", "B"}
        undisturbed = server.ended(server.submit(data, **asked))["id"]
        windows = server.counted('parakeet_job_windows_total{source="read"}')
        job_id = server.submit(data, **asked)
        while server.job(job_id)["progress"]["done_s"] < 60:
            time.sleep(0.02)
        server.kill()
    with job_server(tmp_path, tmp_path / "data") as server:
        assert server.ended(job_id)["status"] == "completed"
        for one in (undisturbed, job_id):
            assert server.client.get(f"/v1/jobs/{one}/result").json() == plain
        known = server.counted('parakeet_job_windows_total{source="known"}')
        assert known >= 4
        assert known + server.counted('parakeet_job_windows_total{source="read"}') == windows


def test_a_server_that_is_told_to_stop_leaves_its_jobs_to_the_next(tmp_path: Path) -> None:
    with job_server(tmp_path, tmp_path / "data") as server:
        job_id = server.submit(recording(40))
        while not server.job(job_id)["progress"]["done_s"]:
            time.sleep(0.02)
        assert server.server.stop(signal.SIGTERM) == 0
    with job_server(tmp_path, tmp_path / "data", JOB_WORKERS="1", wait=False) as server:
        assert server.job(job_id)["status"] in ("queued", "running")
        assert server.ended(job_id)["status"] == "completed"


def test_events_go_on_where_a_client_was(tmp_path: Path) -> None:
    with job_server(tmp_path, tmp_path / "data") as server:
        job_id = server.submit(recording(6))
        events = server.client.get(f"/v1/jobs/{job_id}/events").text.strip().split("\n\n")
        assert events[-1].startswith("event: job.completed")
        rest = server.client.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": "2"}).text
        assert rest.strip().split("\n\n") == events[2:]


def test_a_directory_in_use_refuses_the_start(tmp_path: Path) -> None:
    with job_server(tmp_path, tmp_path / "data"):
        refused = run(
            "serve", "--port", "0", cwd=tmp_path, MODEL_ID="embedded", JOBS="auto", DATA_DIR=str(tmp_path / "data")
        )
    assert refused.returncode == 1
    assert "DATA_DIR" in refused.stderr
    assert "JOBS=off" in refused.stderr
    assert "Traceback" not in refused.stderr
