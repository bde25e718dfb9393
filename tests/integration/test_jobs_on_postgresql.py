"""Jobs that servers share."""

import asyncio
import time
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from parakeet_service.adapters.jobs.database import Database, postgresql_engine
from parakeet_service.adapters.jobs.recordings import DatabaseRecordings
from parakeet_service.adapters.jobs.store import SqlJobStore
from parakeet_service.adapters.jobs.tables import METADATA
from parakeet_service.application.ports.job_store import JobStore, NewJob, WindowKey
from parakeet_service.domain.errors import JobStorageError
from tests.contracts.job_store import KEY, LEASE_S, ROOMY, TOKENS, JobStoreContract, a_job
from tests.integration.job_servers import job_server, recording
from tests.integration.postgresql import postgresql


@pytest.fixture(scope="module")
def server_url() -> Generator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture
def url(server_url: str) -> str:
    engine = postgresql_engine(server_url)
    METADATA.drop_all(engine)
    engine.dispose()
    return server_url


class TestPostgresql(JobStoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, url: str) -> None:
        self._url = url

    def make(self) -> JobStore:
        return SqlJobStore(Database(postgresql_engine(self._url)), lease_s=LEASE_S, alone=False)


def test_who_sleeps_in_a_transaction_keeps_nothing_locked(url: str) -> None:
    lock = text("SELECT pg_advisory_xact_lock(1)")
    sleeper, other = postgresql_engine(url, idle_s=0.2), postgresql_engine(url)
    try:
        with sleeper.connect() as asleep:
            asleep.execute(lock)
            # It would wait for ever: nothing is done in the other transaction meanwhile.
            with other.begin() as awake:
                awake.execute(lock)
            with pytest.raises(DBAPIError, match="idle-in-transaction"):
                asleep.execute(text("SELECT 1"))
        with sleeper.begin() as again:
            again.execute(lock)
        with other.connect() as connection:
            assert connection.scalar(text("SHOW idle_in_transaction_session_timeout")) == "10s"
    finally:
        sleeper.dispose()
        other.dispose()


async def test_recordings_lie_where_every_server_reaches_them(url: str) -> None:
    database = Database(postgresql_engine(url))
    await database.open()
    recordings = DatabaseRecordings(database)
    data = bytes(range(256)) * 10_000

    async def source() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 300_000):
            yield data[start : start + 300_000]

    async def broken() -> AsyncIterator[bytes]:
        yield data
        raise ConnectionError("the client left")

    stored = await recordings.keep("job_1", source())
    assert stored.size_bytes == len(data)
    assert await recordings.has("job_1")
    assert b"".join([piece async for piece in recordings.open("job_1")]) == data
    with pytest.raises(ConnectionError):
        await recordings.keep("job_2", broken())
    assert not await recordings.has("job_2")
    await recordings.remove_all_but(["job_3"])
    assert await recordings.has("job_1")
    await recordings.remove("job_1")
    with pytest.raises(JobStorageError, match="lost"):
        await anext(recordings.open("job_1"))
    await database.aclose()


async def test_a_server_that_wakes_late_leaves_the_new_owners_recording_alone(url: str) -> None:
    database = Database(postgresql_engine(url))
    await database.open()
    recordings = DatabaseRecordings(database)
    piece = bytes(range(256)) * 4096

    async def told(news: asyncio.Event, go_on: asyncio.Event, *, fails: bool = False) -> AsyncIterator[bytes]:
        yield piece * 2
        news.set()
        await go_on.wait()
        if fails:
            raise ConnectionError("the network is back, the connection is not")
        yield b"the end"

    for wakes_before, fails in ((True, True), (True, False), (False, True), (False, False)):
        job_id = f"job_{wakes_before:d}{fails:d}"
        asleep, wake, half, finish = (asyncio.Event() for _ in range(4))
        stale = asyncio.create_task(recordings.keep(job_id, told(asleep, wake, fails=fails)))
        await asleep.wait()
        owner = asyncio.create_task(recordings.keep(job_id, told(half, finish)))
        await half.wait()
        if wakes_before:
            wake.set()
            with pytest.raises(ConnectionError if fails else JobStorageError):
                await stale
        finish.set()
        assert (await owner).size_bytes == len(piece * 2) + 7
        if not wakes_before:
            wake.set()
            if fails:
                with pytest.raises(ConnectionError):
                    await stale
            else:
                await stale
        assert b"".join([one async for one in recordings.open(job_id)]) == piece * 2 + b"the end"
        await recordings.remove(job_id)
        # Neither leaves anything behind.
        rows = await database.run(lambda connection: connection.scalar(text("SELECT count(*) FROM job_recordings")))
        assert rows == 0
    await database.aclose()


async def test_jobs_of_an_older_service_go_on_where_they_were(url: str) -> None:
    engine = postgresql_engine(url)
    database = Database(engine)
    store = SqlJobStore(database, lease_s=LEASE_S, alone=False)
    await store.open()
    await store.add(NewJob(a_job(1)), ROOMY)
    await store.claim(0.0)
    await store.begin("job_0001", model="m", duration_s=None)
    await store.keep_window("job_0001", KEY, TOKENS)
    with engine.begin() as connection:
        # What the first version had, under the names that it gave.
        for statement in (
            "ALTER TABLE job_windows DROP CONSTRAINT job_windows_pkey",
            "ALTER TABLE job_windows DROP COLUMN channel",
            "ALTER TABLE job_windows ADD PRIMARY KEY (job_id, start_ms, samples)",
            "UPDATE jobs_schema SET version = 1",
        ):
            connection.execute(text(statement))
    others = [Database(postgresql_engine(url)) for _ in range(3)]
    await asyncio.gather(*(one.open() for one in others))
    for one in others:
        await one.aclose()
    assert await store.begin("job_0001", model="m", duration_s=None) == {KEY: TOKENS}
    # A server of the version before may still run.
    with engine.begin() as connection:
        old = "INSERT INTO job_windows (job_id, start_ms, samples, tokens) VALUES ('job_0001', 5000, 16000, '[]')"
        connection.execute(text(old))
    assert (await store.begin("job_0001", model="m", duration_s=None))[WindowKey(5000, 16000)] == ()
    await store.aclose()


def test_another_server_ends_the_jobs_of_one_that_died_for_good(url: str, tmp_path: Path) -> None:
    data = recording(12)
    with (
        job_server(tmp_path, tmp_path / "a", JOBS_DATABASE=url, JOB_LEASE="3", JOB_WORKERS="1") as dying,
        job_server(tmp_path, tmp_path / "b", JOBS_DATABASE=url, JOB_LEASE="3", JOB_WORKERS="1") as other,
    ):
        plain = dying.text(dying.submit(data))
        ids = [dying.submit(data) for _ in range(4)]
        # One that has ended says nothing of who reads the others: each server must be in the middle of one.
        while sum(job["status"] == "running" and job["progress"]["done_s"] > 20 for job in map(other.job, ids)) < 2:
            time.sleep(0.05)
        dying.kill()
        for job_id in ids:
            assert other.text(job_id) == plain
        assert other.counted('parakeet_job_windows_total{source="known"}') >= 2
    engine = postgresql_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM job_recordings")) == 0
        assert connection.scalar(text("SELECT count(*) FROM job_windows")) == 0
    engine.dispose()
