import os
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from parakeet_service.adapters.inference.cores import THREADS, one_thread_for_numpy, usable_cores


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


def _threads_of_numpy() -> list[int]:
    assert np.__version__
    return [library["num_threads"] for library in threadpool_info() if "numpy" in library["filepath"]]


@pytest.mark.skipif(not _threads_of_numpy(), reason="numpy's BLAS is not in its wheel")
@pytest.mark.parametrize("told", [None, *THREADS])
def test_numpy_takes_one_thread_unless_it_was_told(monkeypatch: pytest.MonkeyPatch, told: str | None) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    if told is not None:
        monkeypatch.setenv(told, "2")
    with threadpool_limits(2):
        one_thread_for_numpy()
        assert _threads_of_numpy() == [1 if told is None else 2]
