"""Where built graphs are kept, so that each checkpoint is built once per machine."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from ...domain.errors import ModelLoadError

_PARTIAL = ".partial"


def default_cache() -> Path:
    """Where this system keeps what an application can make again."""
    return user_cache_path("parakeet-service")


def cached(cache: Path, key: str, fill: Callable[[Path], None]) -> Path:
    """The directory of what `fill` wrote, now or earlier.

    A process that is killed leaves nothing that could be taken for whole: the directory gets its name when all of it
    is on disk. The next process removes what is left, and fills it again. Other processes wait meanwhile.

    Args:
        cache: The cache's directory, made if need be.
        key: What the contents depend on, as a file name.
        fill: Writes files into an empty directory.

    Raises:
        ModelLoadError: The directory cannot be written, or has no room.
    """
    whole, partial = cache / key, cache / f"{key}{_PARTIAL}"
    if whole.is_dir():
        return whole
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{key}.lock"):
            if not whole.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                try:
                    fill(partial)
                    _flush(partial)
                    partial.rename(whole)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise ModelLoadError(f"The cache directory {cache} cannot hold the built model: {error}") from error
    return whole


def _flush(directory: Path) -> None:
    """See to it that the files are on disk before the directory gets its name."""
    for path in directory.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
