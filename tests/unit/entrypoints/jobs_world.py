"""The application with jobs, read on a scripted model."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from parakeet_service.bootstrap.jobs import Jobs, jobs
from parakeet_service.entrypoints.http.app import create_app
from tests.fakes import FakeWebClient
from tests.unit.entrypoints.world import World, a_settings


@asynccontextmanager
async def jobs_world(
    data_dir: Path, *, run: bool = True, **settings: Any
) -> AsyncGenerator[tuple[World, FakeWebClient]]:
    """A world with jobs in `data_dir`; without `run`, nobody reads them."""
    configured = a_settings(jobs="on", data_dir=data_dir, **settings)
    world = World(settings=configured)
    await world.model.start()
    web = FakeWebClient()
    background = jobs(
        configured, world.service.transcribe_file, world.service.quota, world.metrics, world.service.drain, web
    )
    assert isinstance(background, Jobs)
    world.service = replace(world.service, jobs=background.use_case)
    world.app = create_app(
        settings=configured,
        service=world.service,
        metrics=world.metrics,
        exposition=world.metrics.exposition,
        on_fatal=world.fatal.set,
    )
    if run:
        async with background(world.service):
            yield world, web
        return
    await background.use_case.store.open()
    try:
        yield world, web
    finally:
        await background.use_case.store.aclose()
        assert background.directory is not None
        background.directory.release()


async def ended(client: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = (await client.get(f"/v1/jobs/{job_id}", params={"wait": 30})).json()
        if job["status"] not in ("queued", "running"):
            return job
        await asyncio.sleep(0)
