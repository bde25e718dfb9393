"""Where libraries write, on machines whose file system may be read-only."""

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from ..domain.errors import ModelLoadError

_NUMBA = "NUMBA_CACHE_DIR"
_LOCK = "lock"
_held = list[BaseFileLock]()


def prepare_directories() -> None:
    """Find a place for temporary files, and one for what numba compiles when librosa is imported.

    Raises:
        ModelLoadError: No temporary file can be written.
    """
    _require_temporary_files()
    if os.environ.get(_NUMBA) or any(map(_is_writable, _numbas_own_places())):
        return
    # Not a place that others know: what lies there is executed.
    os.environ[_NUMBA] = str(private_directory("numba"))


def private_directory(purpose: str) -> Path:
    """A new directory for us alone, until the process ends; those that killed processes have left are deleted."""
    prefix = f"parakeet-{purpose}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*/{_LOCK}"):
        # Another user's cannot be opened, and need not be.
        with suppress(OSError, Timeout), FileLock(left, timeout=0):
            shutil.rmtree(left.parent, ignore_errors=True)
    place = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    lock = FileLock(place / _LOCK)
    lock.acquire()
    # Held until the process is gone, however it goes.
    _held.append(lock)
    if not place.exists():
        # Somebody who looked for what is left was quicker.
        return private_directory(purpose)
    return place


def _require_temporary_files() -> None:
    # Python looks elsewhere if TMPDIR cannot be used, but MLX does not.
    asked = os.environ.get("TMPDIR")
    try:
        directory = asked or tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ModelLoadError(
            f"Temporary files cannot be written: {error.strerror or error}. Set TMPDIR to a writable directory; on a "
            "read-only file system, mount a tmpfs for it."
        ) from error


def _numbas_own_places() -> list[Path]:
    spec = find_spec("librosa")
    beside = [] if spec is None or spec.origin is None else [Path(spec.origin).parent]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return [*beside, cache]


def _is_writable(directory: Path) -> bool:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return os.access(existing, os.W_OK)
