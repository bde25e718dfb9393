import sys
from pathlib import Path
from threading import Thread

import pytest

from parakeet_service.adapters.onnx.cache import cached, default_cache
from parakeet_service.domain.errors import ModelLoadError


def write(directory: Path) -> None:
    assert list(directory.iterdir()) == []
    (directory / "a").write_text("built")


def refuse(directory: Path) -> None:
    raise AssertionError(f"{directory} is built again")


@pytest.mark.skipif(sys.platform != "linux", reason="XDG's directories")
def test_is_where_the_system_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "parakeet-service"


def test_fills_once(tmp_path: Path) -> None:
    cache = tmp_path / "not" / "there"

    assert (cached(cache, "key", write) / "a").read_text() == "built"
    assert (cached(cache, "key", refuse) / "a").read_text() == "built"


def test_another_key_is_another_directory(tmp_path: Path) -> None:
    assert cached(tmp_path, "one", write) != cached(tmp_path, "two", write)


def test_who_comes_meanwhile_waits_for_the_other(tmp_path: Path) -> None:
    found: list[Path] = []
    second = Thread(target=lambda: found.append(cached(tmp_path, "key", refuse)))

    def slow(directory: Path) -> None:
        second.start()
        second.join(timeout=0.3)
        assert not found
        write(directory)

    first = cached(tmp_path, "key", slow)
    second.join()

    assert found == [first]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        write(directory)
        raise ModelLoadError("no such tensor")

    with pytest.raises(ModelLoadError, match="no such tensor"):
        cached(tmp_path, "key", fail)

    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_says_that_it_cannot_be_written(tmp_path: Path) -> None:
    def no_room(directory: Path) -> None:
        raise OSError(28, "No space left on device", str(directory))

    with pytest.raises(ModelLoadError, match=r"cache directory .*No space left"):
        cached(tmp_path, "key", no_room)


def test_what_an_earlier_process_left_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "key.partial").mkdir()
    (tmp_path / "key.partial" / "a").write_text("half")

    assert (cached(tmp_path, "key", write) / "a").read_text() == "built"
