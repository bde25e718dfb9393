"""The tools that will read the files of `deploy/` accept them, where they are installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


def run(*command: str | Path) -> str:
    """Output of `command`, which must succeed."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_prometheus_accepts_the_alerts() -> None:
    run("promtool", "check", "rules", DEPLOY / "prometheus" / "alerts.yaml")


def test_alerts_ring_when_they_should() -> None:
    run("promtool", "test", "rules", DEPLOY / "prometheus" / "alerts_test.yaml")


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / "parakeet.service").read_text(encoding="utf-8")
    unit = tmp_path / "parakeet.service"
    # It also looks whether the program is there.
    unit.write_text(text.replace("/opt/parakeet/bin/parakeet-service", "/bin/true"), encoding="utf-8")

    assert "parakeet.service" not in run("systemd-analyze", "verify", unit)
