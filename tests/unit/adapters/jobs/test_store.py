from pathlib import Path

import pytest
from sqlalchemy import update

from parakeet_service.adapters.jobs.data_directory import DataDirectory
from parakeet_service.adapters.jobs.database import Database, postgresql_engine, sqlite_engine
from parakeet_service.adapters.jobs.store import SqlJobStore
from parakeet_service.adapters.jobs.tables import VERSIONS
from parakeet_service.application.ports.job_store import Ending, JobStore, NewJob
from parakeet_service.domain.errors import JobStorageError
from parakeet_service.domain.jobs import JobEvent, JobStatus
from tests.contracts.job_store import LEASE_S, ROOMY, JobStoreContract, a_job


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
    with pytest.raises(JobStorageError, match="newer version"):
        await database.open()
    await database.aclose()


async def test_says_that_the_database_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"this is no database" * 100)
    database = Database(sqlite_engine(tmp_path / "jobs.db"))
    with pytest.raises(JobStorageError, match="cannot be used"):
        await database.open()
    await database.aclose()


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
