"""`parakeet-service jobs` against a real service."""

import json
from pathlib import Path

import pytest

from tests.integration.job_servers import call, job_server, recording
from tests.integration.processes import SAMPLE, run


def test_the_command_sees_a_job_through(tmp_path: Path) -> None:
    (tmp_path / "long.wav").write_bytes(recording(300))
    with job_server(tmp_path, tmp_path / "data", API_KEYS="bob:secret") as server:

        def jobs(*arguments: str) -> str:
            done = run("jobs", *arguments, "--url", server.url, cwd=tmp_path, API_KEY="secret")
            assert done.returncode == 0, done.stderr
            return done.stdout

        text = jobs("submit", str(SAMPLE), "--watch")
        assert len(text.split()) > 20
        job_id = jobs("submit", str(SAMPLE), "--metadata", '{"a": 1}').strip()
        assert jobs("watch", job_id) == text
        assert jobs("result", job_id, "--format", "vtt").startswith("WEBVTT")
        listed = [json.loads(line) for line in jobs("list", "--json", "--status", "completed").splitlines()]
        assert [job["metadata"] for job in listed] == [{"a": 1}, {}]
        long_id = jobs("submit", "long.wav").strip()
        jobs("cancel", long_id)
        assert f"{long_id}  " in jobs("list", "--status", "cancelled")
        jobs("cancel", long_id)
        gone = run("jobs", "result", long_id, "--url", server.url, cwd=tmp_path, API_KEY="secret")
        assert gone.returncode == 1
        assert "There is no such job" in gone.stderr
        (tmp_path / "call.wav").write_bytes(call(1))
        told = jobs("submit", "call.wav", "--channels", "separate", "--format", "diarized_json", "--watch")
        assert {one["speaker"] for one in json.loads(told)["segments"]} == {"A", "B"}
        missing = run("jobs", "submit", "missing.wav", "--url", server.url, cwd=tmp_path, API_KEY="secret")
        assert missing.returncode == 3
        assert "missing.wav" in missing.stderr


@pytest.mark.parametrize("arguments", [(), ("submit",), ("watch",), ("list", "--status", "odd")])
def test_wrong_usage_is_told(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run("jobs", *arguments, cwd=tmp_path).returncode == 2
