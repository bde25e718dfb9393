"""Where libraries write, on machines whose file system may be read-only."""

import atexit
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ..domain.errors import ModelLoadError

_NUMBA = "NUMBA_CACHE_DIR"


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
    """A new directory for us alone, until the process ends."""
    place = tempfile.mkdtemp(prefix=f"parakeet-{purpose}-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return Path(place)


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
