import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, select, update

from parakeet_service.adapters.jobs.data_directory import DataDirectory
from parakeet_service.adapters.jobs.database import Database, postgresql_engine, sqlite_engine
from parakeet_service.adapters.jobs.store import SqlJobStore
from parakeet_service.adapters.jobs.tables import METADATA, VERSIONS
from parakeet_service.application.ports.job_store import Ending, JobStore, NewJob
from parakeet_service.domain.errors import JobStorageError
from parakeet_service.domain.jobs import JobEvent, JobStatus
from tests.contracts.job_store import KEY, LEASE_S, ROOMY, TOKENS, JobStoreContract, a_job


class TestSqlite(JobStoreContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self._path = tmp_path / "jobs.db"

    def make(self) -> JobStore:
        return SqlJobStore(Database(sqlite_engine(self._path)), lease_s=LEASE_S, alone=False)


def _store(path: Path) -> SqlJobStore:
    return SqlJobStore(Database(sqlite_engine(path)), lease_s=LEASE_S, alone=True)


async def test_a_service_that_is_alone_goes_on_at_once(tmp_path: Path) -> None:
    dead = _store(tmp_path / "jobs.db")
    await dead.open()
    await dead.add(NewJob(a_job(1)), ROOMY)
    assert await dead.claim(0.0)
    await dead.aclose()
    alive = _store(tmp_path / "jobs.db")
    await alive.open()
    claim = await alive.claim(1.0)
    await alive.aclose()
    assert claim is not None
    assert claim.attempts == 2


async def test_gives_the_disk_back_what_was_deleted(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = _store(path)
    await store.open()
    empty = path.stat().st_size
    await store.add(NewJob(a_job(1)), ROOMY)
    await store.claim(0.0)
    secret = "nobody shall read this " * 100_000
    await store.keep_progress("job_0001", JobEvent(1, "job.progress", {"words": secret}), done_s=1.0)
    await store.finish("job_0001", Ending(JobStatus.COMPLETED, 1.0, result=secret))
    await store.delete("key bob", "job_0001")
    assert path.stat().st_size < empty + 100_000
    await store.aclose()
    for file in tmp_path.iterdir():
        assert b"nobody shall read this" not in file.read_bytes()


async def test_leaves_the_jobs_of_a_newer_service_alone(tmp_path: Path) -> None:
    database = Database(sqlite_engine(tmp_path / "jobs.db"))
    await database.open()
    await database.run(lambda connection: connection.execute(update(VERSIONS).values(version=99)))
    with pytest.raises(JobStorageError, match="newer version of this service: start that version"):
        await database.open()
    await database.aclose()


def _of_version_1(path: Path) -> None:
    """Two jobs, of which the first was being read, as the first version of the tables left them."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((Path(__file__).parent / "version_1.sql").read_text(encoding="utf-8"))


async def test_jobs_of_an_older_service_go_on_where_they_were(tmp_path: Path) -> None:
    _of_version_1(tmp_path / "jobs.db")
    for _ in range(2):
        store = _store(tmp_path / "jobs.db")
        await store.open()
        first, second = [await store.claim(20.0) for _ in range(2)]
        assert first is not None
        assert second is not None
        assert (first.job.id, first.job.done_s, first.job.duration_s) == ("job_0001", 2.0, 60.0)
        assert (second.job.id, second.job.request.separate) == ("job_0002", False)
        assert await store.begin("job_0001", model="m", duration_s=60.0) == {KEY: TOKENS}
        assert [event.number for event in await store.events("job_0001", after=0)] == [1]
        again = NewJob(a_job(3), 600, "again", "abc")
        assert (await store.add(again, ROOMY)).id == "job_0001"
        await store.aclose()


async def test_an_upgrade_makes_the_tables_of_a_new_service(tmp_path: Path) -> None:
    _of_version_1(tmp_path / "old.db")

    async def described(path: Path) -> object:
        database = Database(sqlite_engine(path))
        await database.open()
        version = await database.run(lambda connection: connection.scalar(select(VERSIONS.c.version)))
        tables = inspect(database.engine)
        names = sorted(tables.get_table_names())
        assert set(names) == set(METADATA.tables)
        shape = [
            (
                tables.get_pk_constraint(name),
                tables.get_foreign_keys(name),
                {c["name"] for c in tables.get_columns(name)},
            )
            for name in names
        ]
        await database.aclose()
        return version, shape

    assert await described(tmp_path / "old.db") == await described(tmp_path / "new.db")


async def test_says_that_the_database_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"this is no database" * 100)
    database = Database(sqlite_engine(tmp_path / "jobs.db"))
    with pytest.raises(JobStorageError, match="cannot be used"):
        await database.open()
    await database.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX's")
async def test_a_disk_that_fails_is_not_a_full_one(tmp_path: Path) -> None:
    import resource

    store = _store(tmp_path / "jobs.db")
    await store.open()
    await store.add(NewJob(a_job(1)), ROOMY)
    await store.claim(0.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # SQLite tells every error of a write but one alike: of a file that may not grow, too.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(JobStorageError, match="cannot be used") as raised:
            await store.finish("job_0001", Ending(JobStatus.COMPLETED, 1.0, result="x" * 2_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "disk i/o error" in str(raised.value.__cause__).lower()
    await store.finish("job_0001", Ending(JobStatus.COMPLETED, 1.0, result="x" * 2_000_000))
    await store.aclose()


def test_a_directory_is_one_services(tmp_path: Path) -> None:
    held = DataDirectory(tmp_path / "data")
    with pytest.raises(JobStorageError, match=r"in use by another service; .*JOBS=off"):
        DataDirectory(tmp_path / "data")
    held.release()
    DataDirectory(tmp_path / "data").release()


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JobStorageError, match=r"DATA_DIR: .*cannot be written.*JOBS=off"):
        DataDirectory(tmp_path / "file" / "data")


def test_a_url_of_no_database_is_refused() -> None:
    with pytest.raises(JobStorageError, match="postgresql://USER"):
        postgresql_engine("nonsense://")
