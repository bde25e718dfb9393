"""What the systemd unit promises."""

import re
from pathlib import Path

from parakeet_service.bootstrap.container import GRACE_S
from parakeet_service.config.settings import Settings

UNIT = Path(__file__).parents[3] / "deploy" / "systemd" / "parakeet.service"
BESIDE_S = 10
"""What ending takes beside the grace time: telling clients, and the model's end."""


def test_running_requests_have_their_grace_time_before_systemd_kills() -> None:
    (stop_s,) = re.findall(r"(?m)^TimeoutStopSec=(\d+)$", UNIT.read_text())

    assert int(stop_s) >= GRACE_S + BESIDE_S


def test_only_the_service_itself_gets_the_signal() -> None:
    assert re.search(r"(?m)^KillMode=mixed$", UNIT.read_text())


def test_variables_are_settings_of_the_service() -> None:
    lines = re.findall(r"(?m)^Environment=(.+)$", UNIT.read_text())
    names = {assignment.partition("=")[0] for line in lines for assignment in line.split()}

    assert names
    # The Hub's library reads that one.
    assert {name.lower() for name in names} - {"hf_home"} <= Settings.model_fields.keys()
