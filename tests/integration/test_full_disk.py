"""Jobs on a disk that is full, for real."""

import resource
import time
from collections.abc import AsyncIterator, Generator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from parakeet_service.adapters.jobs.database import Database, sqlite_engine
from parakeet_service.adapters.jobs.recordings import FileRecordings
from parakeet_service.adapters.jobs.store import SqlJobStore
from parakeet_service.application.ports.job_store import Ending, NewJob
from parakeet_service.domain.errors import StorageFullError
from parakeet_service.domain.jobs import JobStatus
from tests.contracts.job_store import KEY, LEASE_S, ROOMY, TOKENS, a_job
from tests.integration.job_servers import job_server, recording
from tests.integration.small_disk import SmallDisk, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Generator[SmallDisk]:
    path = tmp_path / "disk"
    path.mkdir()
    with small_disk(path) as mounted:
        yield mounted


def test_jobs_wait_for_room_and_lose_nothing(tmp_path: Path, disk: SmallDisk) -> None:
    data = recording(24)
    with job_server(tmp_path, disk.path / "data", JOB_LEASE="3", JOB_WORKERS="2") as server:
        plain = server.text(server.submit(data))
        ids = [server.submit(data) for _ in range(2)]
        while sum(server.job(job_id)["progress"]["done_s"] > 20 for job_id in ids) < 2:
            time.sleep(0.02)
        disk.fill()
        refused = server.client.post("/v1/jobs", files={"file": ("a.wav", data)})
        assert refused.status_code == 507
        assert int(refused.headers["retry-after"]) > 0
        # Until none gets on any more: SQLite still had room within its own files.
        while not any("storage_full" in line or "StorageFullError" in line for line in server.server.lines):
            time.sleep(0.05)
        assert {server.job(job_id)["status"] for job_id in ids} <= {"queued", "running"}
        assert server.client.post("/v1/jobs", files={"file": ("a.wav", data)}).status_code == 507
        assert server.client.get("/healthz").status_code == 200
        disk.make_room()
        for job_id in ids:
            assert server.text(job_id) == plain
        assert server.counted('parakeet_job_windows_total{source="known"}') >= 2
        assert not list((disk.path / "data" / "recordings").iterdir())
        assert server.text(server.submit(data)) == plain


async def test_what_does_not_fit_is_undone_as_a_whole(disk: SmallDisk) -> None:
    store = SqlJobStore(Database(sqlite_engine(disk.path / "jobs.db")), lease_s=LEASE_S, alone=True)
    await store.open()
    await store.add(NewJob(a_job(1)), ROOMY)
    await store.claim(0.0)
    await store.begin("job_0001", model="m", duration_s=60.0)
    await store.keep_window("job_0001", KEY, TOKENS)
    later = replace(KEY, start_ms=9000)
    result = '{"text":"' + "what was said " * 200_000 + '"}'
    # In the middle of a checkpoint, and of a result: some of it fits.
    disk.fill(leave_bytes=100_000)
    with pytest.raises(StorageFullError):
        await store.keep_window("job_0001", later, TOKENS * 20_000)
    with pytest.raises(StorageFullError):
        await store.finish("job_0001", Ending(JobStatus.COMPLETED, 5.0, result=result))
    running = await store.find("key bob", "job_0001")
    assert (running.status, await store.result("key bob", "job_0001")) == (JobStatus.RUNNING, None)
    disk.make_room()
    assert await store.begin("job_0001", model="m", duration_s=60.0) == {KEY: TOKENS}
    await store.keep_window("job_0001", later, TOKENS)
    assert await store.begin("job_0001", model="m", duration_s=60.0) == {KEY: TOKENS, later: TOKENS}
    await store.finish("job_0001", Ending(JobStatus.COMPLETED, 6.0, result=result))
    assert await store.result("key bob", "job_0001") == result
    await store.aclose()


async def test_a_recording_that_does_not_fit_leaves_nothing_behind(disk: SmallDisk) -> None:
    async def source() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield bytes(1 << 20)

    recordings = FileRecordings(disk.path / "recordings")
    disk.fill(leave_bytes=1 << 21)
    with pytest.raises(StorageFullError):
        await recordings.keep("job_1", source())
    assert not list((disk.path / "recordings").iterdir())
    disk.make_room()
    assert (await recordings.keep("job_1", source())).size_bytes == 1 << 22


def _is_open(path: Path) -> bool:
    return any(one.exists() and one.samefile(path) for one in Path("/proc/self/fd").iterdir())


async def test_a_database_that_a_full_disk_keeps_from_opening_says_so(disk: SmallDisk) -> None:
    disk.fill()
    database = Database(sqlite_engine(disk.path / "jobs.db"))
    with pytest.raises(StorageFullError):
        await database.open()
    # Nothing of the attempt is left open: the service may try for long.
    assert not any(_is_open(path) for path in disk.path.iterdir())
    disk.make_room()
    await database.open()
    await database.aclose()


async def test_an_error_of_a_disk_that_is_full_is_a_full_disk(disk: SmallDisk) -> None:
    database = Database(sqlite_engine(disk.path / "jobs.db"))
    await database.open()
    disk.fill(leave_bytes=16_384)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As with a used-up quota, SQLite tells only of an error: its file may not grow.
    resource.setrlimit(resource.RLIMIT_FSIZE, ((disk.path / "jobs.db-wal").stat().st_size, limits[1]))
    try:
        with pytest.raises(StorageFullError) as raised:
            await database.run(
                lambda connection: connection.execute(text("CREATE TABLE t AS SELECT zeroblob(2000000)"))
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "disk i/o error" in str(raised.value.__cause__).lower()
    await database.aclose()
