"""The directory that one service at a time holds."""

from pathlib import Path

from filelock import FileLock, Timeout

from ...domain.errors import JobStorageError

_OFF = "set DATA_DIR to another directory, or JOBS=off"


class DataDirectory:
    """A directory that is ours alone until `release`, or until this process is gone, however it goes."""

    def __init__(self, path: Path) -> None:
        """Make it, and lock it.

        Raises:
            JobStorageError: It cannot be written, or another service holds it; the message says what to do.
        """
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = FileLock(path / "lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise JobStorageError(f"DATA_DIR: {path} is in use by another service; {_OFF}.") from error
        except OSError as error:
            raise JobStorageError(f"DATA_DIR: {path} cannot be written ({error.strerror or error}); {_OFF}.") from error

    def release(self) -> None:
        """Let another service have it."""
        self._lock.release()
