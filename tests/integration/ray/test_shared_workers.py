"""Two services on one Ray that they did not start: they share its workers, and neither's death harms the other."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.integration.ray.clusters import load, needs_ray, ray_head, service, wait_for_workers, workers_among

pytestmark = needs_ray


async def killed(
    kills: int,
    workers: Callable[[], set[psutil.Process]],
    first: str,
    second: str,
    texts: list[str],
    finals: list[list[str]],
) -> set[psutil.Process]:
    """Worker after worker dies under the load of both fronts, and one takes its place, though both ask for it."""
    for number in range(kills):
        before = workers()
        both = asyncio.gather(*(load(url, uploads=10, sessions=5) for url in (first, second)))
        victim = sorted(before, key=lambda process: process.pid)[number % 2]
        used_s = victim.cpu_times().user
        # It dies while it works.
        while victim.cpu_times().user < used_s + 0.2 and not both.done():
            await asyncio.sleep(0.02)
        assert not both.done()
        victim.kill()
        # The same finals, and as many: no session was lost, and nothing was told twice.
        assert await both == [(texts * 10, finals * 5)] * 2
        for url in (first, second):
            await asyncio.to_thread(wait_for_workers, url)
        assert len(workers()) == 2
        assert victim not in workers()
        assert workers() & before
    return workers()


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.soak)])
async def test_fronts_share_workers_and_survive_each_other_and_them(tmp_path: Path, kills: int) -> None:
    with service(tmp_path) as (_, url):
        texts, finals = await load(url, uploads=1, sessions=1)

    with ray_head(CLUSTER_WORKERS="2") as head:

        def workers() -> set[psutil.Process]:
            return set(workers_among(head.process.children(recursive=True)))

        with (
            service(tmp_path, **head.settings) as (first_server, first),
            service(tmp_path, **head.settings) as (second_server, second),
        ):
            for url in (first, second):
                await asyncio.to_thread(wait_for_workers, url)
            of_both = workers()
            assert len(of_both) == 2
            assert await asyncio.gather(*(load(url, uploads=2, sessions=1) for url in (first, second))) == (
                [(texts * 2, finals)] * 2
            )
            assert workers() == of_both

            replaced = await killed(kills, workers, first, second, texts, finals)

            # The front that started them dies: what it had at the workers takes no room for long.
            of_first = asyncio.create_task(load(first, uploads=10, sessions=4))
            of_second = asyncio.create_task(load(second, uploads=10, sessions=4))
            await asyncio.sleep(0.5)
            first_server.process.kill()
            assert await of_second == (texts * 10, finals * 4)
            await asyncio.wait([of_first])
            assert of_first.exception() is not None
            assert await load(second, uploads=2, sessions=1) == (texts * 2, finals)
            assert workers() == replaced

            # A third one finds them as they are.
            with service(tmp_path, **head.settings) as (third_server, third):
                await asyncio.to_thread(wait_for_workers, third)
                assert workers() == replaced
                assert await load(third, uploads=1, sessions=1) == (texts, finals)
                assert third_server.stop() == 0
            assert await load(second, uploads=1, sessions=1) == (texts, finals)
            assert workers() == replaced
            # The last one that is alive leaves; the one that was killed is given up after its lease.
            assert second_server.stop() == 0
        _, alive = await asyncio.to_thread(psutil.wait_procs, replaced, 120)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
