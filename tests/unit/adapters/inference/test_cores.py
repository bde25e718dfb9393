import os
from pathlib import Path

import pytest

from parakeet_service.adapters.inference.cores import usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def affinity(_process: int) -> set[int]:
        return set(range(8))

    monkeypatch.setattr(os, "sched_getaffinity", affinity, raising=False)


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8)]
)
def test_the_quota_of_a_container_counts(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n", encoding="ascii")
    assert usable_cores(tmp_path / "cpu.max") == cores


def test_without_a_quota_that_can_be_read_all_cores_are_usable(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none") == 8
    assert usable_cores(tmp_path) == 8
