"""Where recordings lie until they have been read: in files, or in the database that servers share."""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterable, Collection
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from ...application.ports.recording_store import StoredRecording
from ...domain.errors import JobStorageError, shortage_behind
from .database import Database
from .tables import RECORDINGS

_PIECE_BYTES = 1 << 20
_ORPHAN_S = 86_400.0
"""A recording of nobody's that is so old was left by a server that died."""


class FileRecordings:
    """Recordings as files of one directory, which is this service's alone."""

    def __init__(self, directory: Path) -> None:
        """Use `directory`, which is made on first use."""
        self._directory = directory

    async def keep(self, job_id: str, source: AsyncIterable[bytes]) -> StoredRecording:
        """See the port."""
        digest = hashlib.sha256()
        size = 0
        # Under another name until all of it is there.
        path = self._path(f"{job_id}.part")
        try:
            file = await asyncio.to_thread(self._create, path)
            try:
                async for piece in source:
                    size += len(piece)
                    await asyncio.to_thread(_write, file, piece)
                    digest.update(piece)
                await asyncio.to_thread(os.fsync, file)
            finally:
                os.close(file)
            await asyncio.to_thread(path.replace, self._path(job_id))
        except BaseException as error:  # a caller that leaves, too, must leave no file behind
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise shortage_behind(error) or JobStorageError("The recording cannot be stored.") from error
            raise
        return StoredRecording(size, digest.hexdigest())

    async def has(self, job_id: str) -> bool:
        """See the port."""
        return await asyncio.to_thread(self._path(job_id).exists)

    async def open(self, job_id: str) -> AsyncGenerator[bytes]:
        """See the port."""
        try:
            with self._path(job_id).open("rb") as file:
                while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                    yield piece
        except OSError as error:
            raise shortage_behind(error) or JobStorageError("The recording of the job is lost.") from error

    async def remove(self, job_id: str) -> None:
        """See the port."""
        await asyncio.to_thread(self._path(job_id).unlink, missing_ok=True)

    async def remove_all_but(self, job_ids: Collection[str]) -> None:
        """See the port."""

        def clean() -> None:
            if self._directory.is_dir():
                for path in self._directory.iterdir():
                    if path.name not in job_ids:
                        path.unlink()

        await asyncio.to_thread(clean)

    def _create(self, path: Path) -> int:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)

    def _path(self, job_id: str) -> Path:
        return self._directory / job_id


class DatabaseRecordings:
    """Recordings in pieces of a megabyte in a table, where every server reaches them."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    async def keep(self, job_id: str, source: AsyncIterable[bytes]) -> StoredRecording:
        """See the port."""
        digest = hashlib.sha256()
        size = number = 0
        buffer = bytearray()
        # Under another name until all of it is there: whose job it was may wake up, and still be writing its own.
        part = f"{job_id}.{secrets.token_urlsafe(3)[:3]}"
        await self._remove_parts(job_id)
        try:
            async for piece in source:
                size += len(piece)
                digest.update(piece)
                buffer += piece
                while len(buffer) >= _PIECE_BYTES:
                    await self._add(part, number, bytes(buffer[:_PIECE_BYTES]))
                    del buffer[:_PIECE_BYTES]
                    number += 1
            if buffer:
                await self._add(part, number, bytes(buffer))
                number += 1
            # An empty piece says that this is all.
            await self._add(part, number, b"")
            await self._database.run(lambda connection: _publish(connection, part, job_id, pieces=number + 1))
        except BaseException:  # a caller that leaves, too, must leave no pieces behind
            await asyncio.shield(self.remove(part))
            raise
        return StoredRecording(size, digest.hexdigest())

    async def _add(self, job_id: str, number: int, piece: bytes) -> None:
        row = {"job_id": job_id, "number": number, "kept_at": time.time(), "piece": piece}
        await self._database.run(lambda connection: connection.execute(insert(RECORDINGS).values(row)))

    async def has(self, job_id: str) -> bool:
        """See the port."""
        last = select(RECORDINGS.c.piece).where(RECORDINGS.c.job_id == job_id).order_by(RECORDINGS.c.number.desc())
        return await self._database.run(lambda connection: connection.scalar(last.limit(1))) == b""

    async def open(self, job_id: str) -> AsyncGenerator[bytes]:
        """See the port."""
        number = 0
        while True:
            piece = await self._database.run(partial(_piece, job_id=job_id, number=number))
            if piece is None:
                raise JobStorageError("The recording of the job is lost.")
            if not piece:
                return
            yield piece
            number += 1

    async def remove(self, job_id: str) -> None:
        """See the port."""
        await self._database.run(
            lambda connection: connection.execute(delete(RECORDINGS).where(RECORDINGS.c.job_id == job_id))
        )

    async def _remove_parts(self, job_id: str) -> None:
        parts = RECORDINGS.c.job_id.startswith(f"{job_id}.", autoescape=True)
        await self._database.run(lambda connection: connection.execute(delete(RECORDINGS).where(parts)))

    async def remove_all_but(self, job_ids: Collection[str]) -> None:
        """See the port: others may be writing theirs just now, so that only old ones are."""
        old = RECORDINGS.c.kept_at < time.time() - _ORPHAN_S
        await self._database.run(
            lambda connection: connection.execute(delete(RECORDINGS).where(old, RECORDINGS.c.job_id.not_in(job_ids)))
        )


def _write(file: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(file, view) :]


def _piece(connection: Connection, *, job_id: str, number: int) -> bytes | None:
    query = select(RECORDINGS.c.piece).where(RECORDINGS.c.job_id == job_id, RECORDINGS.c.number == number)
    return connection.scalar(query)


def _publish(connection: Connection, part: str, job_id: str, *, pieces: int) -> None:
    """Make the pieces of `part` the recording of the job, unless another server was faster: then theirs stays.

    Raises:
        JobStorageError: Pieces are missing: another server has removed them, which has taken the job over.
    """
    if connection.scalar(select(RECORDINGS.c.number).where(RECORDINGS.c.job_id == job_id).limit(1)) is not None:
        connection.execute(delete(RECORDINGS).where(RECORDINGS.c.job_id == part))
        return
    mine = update(RECORDINGS).where(RECORDINGS.c.job_id == part)
    if connection.execute(mine.values(job_id=job_id)).rowcount != pieces:
        raise JobStorageError("Another server is fetching the recording of the job.")
