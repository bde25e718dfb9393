import os
from pathlib import Path

import pytest

from parakeet_service.bootstrap.directories import prepare_directories
from parakeet_service.domain.errors import ModelLoadError


def nowhere(_path: object, _mode: int) -> bool:
    return False


@pytest.fixture(autouse=True)
def _numba(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    # What is set in the test is taken back.
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")


def test_temporary_files_that_cannot_be_written_stop_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    with pytest.raises(ModelLoadError, match="TMPDIR"):
        prepare_directories()


def test_numba_gets_a_private_place_only_where_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_directories()
    assert not os.environ["NUMBA_CACHE_DIR"]
    monkeypatch.setattr(os, "access", nowhere)
    prepare_directories()
    place = Path(os.environ["NUMBA_CACHE_DIR"])
    assert place.is_dir()
    assert place.stat().st_mode & 0o077 == 0
    place.rmdir()


def test_a_place_that_was_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/chosen")
    monkeypatch.setattr(os, "access", nowhere)
    prepare_directories()
    assert os.environ["NUMBA_CACHE_DIR"] == "/chosen"
