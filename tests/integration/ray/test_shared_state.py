"""Two services on one Ray, one Redis and one PostgreSQL: limits, short-lived keys and jobs are those of both."""

import asyncio
import json
import time
from pathlib import Path

import httpx2
import psutil
import websockets

from tests.integration.job_servers import JobServer, recording
from tests.integration.postgresql import postgresql
from tests.integration.processes import SAMPLE, Server
from tests.integration.ray.clusters import needs_ray, ray_head, service, wait_for_workers, workers_among
from tests.integration.redis_server import redis_server

pytestmark = needs_ray

KEYS = ("one-of-alice", "one-of-bob")
LIMIT = 1000
"""Requests of each caller; looking at jobs takes far fewer."""
TIMES = 12
"""The sample in a row, in the job that its front does not live to end: some minutes."""


def client(url: str, key: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, trust_env=False, timeout=600, headers={"authorization": f"Bearer {key}"})


def statuses(first: httpx2.Client, second: httpx2.Client, count: int) -> list[int]:
    """Of so many requests, to each in turn."""
    return [(first, second)[number % 2].get("/v1/models").status_code for number in range(count)]


async def greeting(url: str, secret: str) -> str:
    address = url.replace("http", "ws", 1) + "/v1/realtime?intent=transcription"
    headers = {"authorization": f"Bearer {secret}"}
    async with websockets.connect(address, additional_headers=headers, proxy=None) as session:
        return str(json.loads(await session.recv())["type"])


def jobs_at(server: Server, url: str, key: str) -> JobServer:
    """A client of the jobs of a service, in the name of `key`."""
    at = JobServer(server, url)
    at.client.headers["authorization"] = f"Bearer {key}"
    return at


async def test_limits_keys_and_jobs_are_those_of_all_fronts(tmp_path: Path) -> None:
    with redis_server() as limits, postgresql() as database, ray_head(CLUSTER_WORKERS="2") as head:
        settings = head.settings | {
            "API_KEYS": f"alice:{KEYS[0]},bob:{KEYS[1]}",
            "RATE_LIMIT": f"{LIMIT}/year",
            "RATE_LIMIT_STORAGE": limits,
            "CLIENT_SECRET_KEY": "k" * 32,
            "JOBS": "on",
            "JOBS_DATABASE": database,
            "JOB_LEASE": "3",
            "JOB_WORKERS": "1",
            "CHUNK_DURATION": "10",
        }
        with (
            service(tmp_path, **settings, DATA_DIR=str(tmp_path / "one")) as (first_server, first),
            service(tmp_path, **settings, DATA_DIR=str(tmp_path / "other")) as (second_server, second),
        ):
            for url in (first, second):
                await asyncio.to_thread(wait_for_workers, url)
            of_both = workers_among(head.process.children(recursive=True))
            assert len(of_both) == 2

            # A short-lived key that one made opens a session at the other.
            with client(first, KEYS[1]) as bob:
                secret = bob.post("/v1/realtime/client_secrets", json={}).json()["value"]
                refused = bob.post("/transcribe", files={"file": SAMPLE.read_bytes()}, headers={"authorization": "x"})
            assert refused.status_code == 401
            assert await greeting(second, secret) == await greeting(first, secret) == "session.created"

            # What one took from a limit is gone at the other, for this caller alone.
            with client(first, KEYS[0]) as at_first, client(second, KEYS[0]) as at_second:
                assert await asyncio.to_thread(statuses, at_first, at_second, LIMIT + 2) == ([200] * LIMIT + [429] * 2)
            with client(second, KEYS[1]) as bob:
                assert bob.get("/v1/models").status_code == 200

            await asyncio.to_thread(
                _move_a_job, jobs_at(first_server, first, KEYS[1]), jobs_at(second_server, second, KEYS[1])
            )
            assert [worker.is_running() for worker in of_both] == [True, True]
            assert second_server.stop() == 0
        _, alive = await asyncio.to_thread(psutil.wait_procs, of_both, 120)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def _move_a_job(first: JobServer, second: JobServer) -> None:
    """Each knows the other's jobs; what one was reading when it was killed, the other ends."""
    data = recording(TIMES)
    plain = second.text(first.submit(data))
    assert plain
    ids = [first.submit(data) for _ in range(4)]
    # Each is in the middle of one, so one of them is that of the front that dies.
    while sum(job["status"] == "running" and job["progress"]["done_s"] > 20 for job in map(second.job, ids)) < 2:
        time.sleep(0.2)
    first.kill()
    assert [second.text(job_id) for job_id in ids] == [plain] * len(ids)
    # It did not begin anew.
    assert second.counted('parakeet_job_windows_total{source="known"}') >= 2
    second.client.close()
