import os
import shutil
import tempfile
from pathlib import Path

import pytest

from parakeet_service.bootstrap.directories import prepare_directories, private_directory
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
    shutil.rmtree(place)


def test_a_place_that_was_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/chosen")
    monkeypatch.setattr(os, "access", nowhere)
    prepare_directories()
    assert os.environ["NUMBA_CACHE_DIR"] == "/chosen"


def test_what_killed_processes_left_is_deleted_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "parakeet-common-left"
    no_lock = tmp_path / "parakeet-common-of-somebody-else"
    for place in (left, no_lock):
        place.mkdir()
        (place / "model.sock").touch()
    (left / "lock").touch()
    ours = private_directory("common")
    assert private_directory("common").is_dir()
    assert ours.is_dir()
    assert no_lock.is_dir()
    assert not left.exists()
