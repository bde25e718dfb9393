import os
from pathlib import Path

import pytest

from parakeet_service.adapters.onnx.cores import usable_cores


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 1), ("50000 100000", 1), ("100000 100000", 1)])
def test_a_container_may_use_what_its_quota_allows(tmp_path: Path, quota: str, cores: int) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(quota)
    assert usable_cores(path) == cores


def test_without_a_quota_all_cores_are_usable(tmp_path: Path) -> None:
    path = tmp_path / "cpu.max"
    everything = usable_cores(path)
    path.write_text("max 100000")
    assert 1 <= usable_cores(path) == everything <= (os.cpu_count() or 1)
