"""The port behind which the recordings of jobs lie until they have been read."""

from collections.abc import AsyncGenerator, AsyncIterable, Collection
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredRecording:
    """A recording that is kept.

    Attributes:
        size_bytes: How large it is.
        sha256: Of its bytes, in hexadecimal.
    """

    size_bytes: int
    sha256: str


class RecordingStore(Protocol):
    """Keeps recordings where every server that may read the job reaches them. May be called concurrently."""

    async def keep(self, job_id: str, source: AsyncIterable[bytes]) -> StoredRecording:
        """Keep all of `source`; when this has returned, it survives the death of the machine.

        What `source` raises passes through, and nothing is kept then.

        Raises:
            StorageFullError: There is no room for it.
            JobStorageError: It cannot be written.
        """
        ...

    async def has(self, job_id: str) -> bool:
        """Whether all of a recording is there."""
        ...

    def open(self, job_id: str) -> AsyncGenerator[bytes]:
        """The bytes of a recording, in pieces; who does not read all of them closes it.

        Raises:
            JobStorageError: While iterating: it is not there.
        """
        ...

    async def remove(self, job_id: str) -> None:
        """Delete a recording, if it is there."""
        ...

    async def remove_all_but(self, job_ids: Collection[str]) -> None:
        """Delete what a process that died has left, where only this server can have left it."""
        ...
