import os
from pathlib import Path

import pytest

from parakeet_service.adapters.parakeet_mlx.blas import leave_a_core


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


def _bound_to(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    def affinity(_process: int) -> set[int]:
        return set(range(cores))

    monkeypatch.setattr(os, "sched_getaffinity", affinity, raising=False)


def _no_file(_path: Path, **_options: str) -> str:
    raise FileNotFoundError
