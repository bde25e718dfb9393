"""One database, its threads, and its errors in our words."""

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event, insert, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from ...domain.errors import JobStorageError, StorageFullError, shortage_behind
from .tables import METADATA, SCHEMA_VERSION, VERSIONS
from .upgrades import upgrade

T = TypeVar("T")

_THREADS = 4
_LOCK = 0x7061726B
"""Names the lock under which one server at a time makes the tables."""
_BUSY_MS = 30_000
_IDLE_S = 10.0
"""A transaction in which a server does nothing for so long is undone: whoever sleeps keeps no job locked."""
_POSTGRESQL_FULL = "53100"
"""SQLSTATE `disk_full`."""
_PRAGMAS = (
    "auto_vacuum=INCREMENTAL",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=FAST",
)
"""In this order: room can be given back only by a database that was made for it."""
_PROBE_BYTES = 1 << 16


class Database:
    """Runs transactions in threads of its own: one on SQLite, which has one writer, and a few on PostgreSQL."""

    def __init__(self, engine: Engine) -> None:
        """Use `engine`; nothing is connected to before the first transaction."""
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._threads = ThreadPoolExecutor(1 if self.is_sqlite else _THREADS, thread_name_prefix="jobs-database")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` gives, in a transaction; it is done or undone as a whole, also where the caller is cancelled.

        Raises:
            StorageFullError: There is no room.
            JobStorageError: The database cannot be used.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    def _run(self, work: Callable[[Connection], T]) -> T:
        try:
            with self.engine.begin() as connection:
                return work(connection)
        except DBAPIError as error:
            if self._is_full(error.orig):
                raise StorageFullError("The service has no disk space left for jobs.", retry_after_s=30.0) from error
            raise JobStorageError("The database of the jobs cannot be used.") from error
        except SQLAlchemyError as error:
            raise JobStorageError("The database of the jobs cannot be used.") from error

    def _is_full(self, error: BaseException | None) -> bool:
        if not isinstance(error, sqlite3.Error):
            return getattr(error, "sqlstate", None) == _POSTGRESQL_FULL
        # An extended code has the plain one in its low byte; errors of the driver's own have none.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_IOERR:
            # Of a disk that fails as of a used-up quota.
            return _takes_no_more(Path(str(self.engine.url.database)).parent)
        return code == sqlite3.SQLITE_FULL

    async def open(self) -> None:
        """Make the tables, unless they are there.

        Raises:
            JobStorageError: They are those of a newer service, or cannot be made.
        """
        await self.run(self._make_tables)

    def _make_tables(self, connection: Connection) -> None:
        if not self.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        METADATA.create_all(connection)
        version = connection.scalar(select(VERSIONS.c.version))
        if version is None:
            connection.execute(insert(VERSIONS).values(version=SCHEMA_VERSION))
        elif version > SCHEMA_VERSION:
            raise JobStorageError(
                "The jobs in DATA_DIR or JOBS_DATABASE are those of a newer version of this service: start that version, "
                "or name another place for the jobs of this one."
            )
        elif version < SCHEMA_VERSION:
            upgrade(connection, version)

    async def give_back_room(self) -> None:
        """Give what was deleted back to the disk; PostgreSQL does so by itself."""
        if self.is_sqlite:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._vacuum)

    def _vacuum(self) -> None:
        # Outside of a transaction, which SQLAlchemy would begin.
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            # `execute` would give back one page, for it takes one step of it.
            cast("sqlite3.Cursor", cursor).executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);")
            cursor.close()
        finally:
            connection.close()

    async def aclose(self) -> None:
        """Finish what runs, and disconnect."""
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()


def _takes_no_more(directory: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return isinstance(shortage_behind(error), StorageFullError)
    return False


def sqlite_engine(path: Path) -> Engine:
    """A database in a file; it is made on first use."""
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False}, pool_size=1
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: ConnectionPoolEntry) -> None:  # pyright: ignore[reportUnusedFunction]
        # The driver must not begin transactions itself: it would do so only at the first change.
        connection.isolation_level = None
        try:
            with closing(connection.cursor()) as cursor:
                for pragma in _PRAGMAS:
                    cursor.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            # SQLAlchemy does not know it yet.
            connection.close()
            raise

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        # What is read first and changed then must not be changed by another in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def postgresql_engine(url: str, *, idle_s: float = _IDLE_S) -> Engine:
    """A database that servers share.

    Args:
        url: As ``JOBS_DATABASE`` has it.
        idle_s: After so long without a statement PostgreSQL undoes a transaction, and ends its connection.

    Raises:
        JobStorageError: The URL cannot be read, or the driver is not installed.
    """
    try:
        scheme, _, rest = url.partition("://")
        driver = "postgresql+psycopg" if scheme in ("postgresql", "postgres") else scheme
        engine = create_engine(f"{driver}://{rest}", pool_size=_THREADS, max_overflow=0, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise JobStorageError(
            "JOBS_DATABASE: PostgreSQL needs the extra: pip install 'parakeet-service[postgresql]'."
        ) from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise JobStorageError("JOBS_DATABASE must be postgresql://USER:PASSWORD@HOST/NAME.") from error

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: ConnectionPoolEntry) -> None:  # pyright: ignore[reportUnusedFunction]
        with closing(connection.cursor()) as cursor:
            cursor.execute(f"SET idle_in_transaction_session_timeout = {round(1000 * idle_s)}")
        connection.commit()

    return engine
