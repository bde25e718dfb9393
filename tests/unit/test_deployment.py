"""What the container files promise."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from parakeet_service.config.settings import Settings

ROOT = Path(__file__).parents[2]
DOWNLOAD_BYTES = 2.5e9


@pytest.fixture
def service() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["parakeet"]
    return parsed


def test_compose_passes_every_setting(service: dict[str, Any]) -> None:
    assert service["env_file"] == [{"path": ".env", "required": False}]
    # Only where the container listens is not the user's to say.
    assert {name for name, value in service["environment"].items() if value is not None} == {"HOST", "PORT"}


def test_compose_calls_it_healthy_once_it_is_ready_and_waits_for_the_download(service: dict[str, Any]) -> None:
    health = service["healthcheck"]
    assert "/readyz" in health["test"][-1]
    minutes = int(health["start_period"].removesuffix("m"))
    assert DOWNLOAD_BYTES / (minutes * 60) < 2e6


def test_no_health_check_goes_through_a_proxy(service: dict[str, Any]) -> None:
    (image,) = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if "/readyz" in line]
    for check in (image, service["healthcheck"]["test"][-1]):
        assert "ProxyHandler({})" in check


def test_the_gpu_is_a_second_file() -> None:
    parsed = yaml.safe_load((ROOT / "compose.cuda.yaml").read_text())["services"]["parakeet"]
    assert parsed["build"]["args"]["BACKEND"] == "cuda"
    assert parsed["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"


def test_two_services_share_workers_limits_and_jobs() -> None:
    services = yaml.safe_load((ROOT / "compose.cluster.yaml").read_text())["services"]
    first, second = services["parakeet-1"], services["parakeet-2"]
    assert first["environment"] == second["environment"]
    named = {name for name in first["environment"] if name != "HF_TOKEN"}
    assert named <= {name.upper() for name in Settings.model_fields}
    assert first["environment"]["CLUSTER_TOKEN"] == services["ray"]["environment"]["RAY_AUTH_TOKEN"]
    # Nobody outside reaches what runs code, or keeps data.
    assert [name for name, one in services.items() if "ports" in one] == ["parakeet-1", "parakeet-2"]
    # The image's own check asks a port that it does not have.
    assert services["ray"]["healthcheck"] == {"disable": True}
