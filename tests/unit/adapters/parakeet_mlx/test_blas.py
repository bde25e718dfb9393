import os
from pathlib import Path

import pytest

from parakeet_service.adapters.parakeet_mlx.blas import leave_a_core, usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    _bound_to(monkeypatch, 8)


def test_one_core_is_left_to_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(Path, "read_text", _no_file)
    leave_a_core(threads.append)
    _bound_to(monkeypatch, 1)
    leave_a_core(threads.append)
    assert threads == [7, 1]


@pytest.mark.parametrize("name", ["OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"])
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    threads: list[int] = []
    monkeypatch.setenv(name, "8")
    leave_a_core(threads.append)
    assert threads == []


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8)]
)
def test_the_quota_of_a_container_counts(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n", encoding="ascii")
    assert usable_cores(tmp_path / "cpu.max") == cores


def test_without_a_quota_that_can_be_read_all_cores_are_usable(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none") == 8
    assert usable_cores(tmp_path) == 8


def _bound_to(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    def affinity(_process: int) -> set[int]:
        return set(range(cores))

    monkeypatch.setattr(os, "sched_getaffinity", affinity, raising=False)


def _no_file(_path: Path, **_options: str) -> str:
    raise FileNotFoundError
