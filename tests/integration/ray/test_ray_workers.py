"""Workers as Ray actors, without a service: each has its own GPU (Ray believes in two), and may take long to load."""

import asyncio
import importlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from parakeet_service.adapters.inference.job_queue import Urgency
from parakeet_service.adapters.inference.jobs import EncoderJob
from parakeet_service.adapters.inference.model import EngineModel
from parakeet_service.adapters.onnx.model import onnx_model
from parakeet_service.adapters.ray import cluster
from parakeet_service.adapters.ray.actor import RayWorker
from parakeet_service.adapters.ray.cluster import Cluster, RayWorkers
from parakeet_service.adapters.ray.line import Door, listen
from parakeet_service.adapters.ray.workers import Window, WorkerLostError
from tests.integration.ray.clusters import Head, environment_for_ray, needs_ray, ray_head

pytestmark = needs_ray


def visible(_: object) -> str:
    """In a worker: the GPUs that it sees."""
    return os.environ["CUDA_VISIBLE_DEVICES"]


def lines_cut(_: object, port: int) -> int:
    """In a worker: what happens when a firewall ends the connections to a port; gives how many there were."""
    ends = [one for one in psutil.Process().net_connections("tcp") if one.laddr.port == port and one.status != "LISTEN"]
    for end in ends:
        with socket.fromfd(end.fd, socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.shutdown(socket.SHUT_RDWR)
    return len(ends)


@pytest.fixture(scope="module")
def cluster_head() -> Generator[Head]:
    """One for all: Ray reads its token when it is imported."""
    with ray_head("--num-gpus=2") as head:
        yield head


@pytest.fixture
def head(cluster_head: Head, monkeypatch: pytest.MonkeyPatch) -> Head:
    """The same, with nothing left of the test before."""
    environment_for_ray(monkeypatch)
    return cluster_head


embedded_model = partial(
    onnx_model,
    model_id="embedded",
    precision="fp32",
    offline=True,
    sample_rate_hz=16000,
    batch_size=1,
    most_waiting=64,
    most_streams=1,
)


def slow_model(cache: Path) -> EngineModel:
    """In a worker: it is impatient, and loads for a while."""
    worker: Any = importlib.import_module("parakeet_service.adapters.ray.worker")
    worker._LEASE_S = 2.0
    model = embedded_model(cache=cache)
    start = model.start

    async def slow_start() -> None:
        # It looks for its fronts after five seconds.
        await asyncio.sleep(6.0)
        await start()

    model.start = slow_start  # type: ignore[method-assign]
    return model


def model_that_fails_once(cache: Path) -> EngineModel:
    """In a worker: there is a defect, which does not happen again."""
    failed = cache / "failed"
    if not failed.exists():
        failed.touch()
        raise OSError("a defect")
    return embedded_model(cache=cache)


@asynccontextmanager
async def connected(head: Head, make: "partial[EngineModel]", **options: Any) -> AsyncGenerator[RayWorkers]:
    """Workers that make their engine so; `options` are those of `Cluster`."""
    workers = RayWorkers(
        make, Cluster(address=head.settings["RAY_ADDRESS"], token=head.settings["CLUSTER_TOKEN"], **options)
    )
    await workers.connect()
    # Not before: Ray reads the environment when it is imported.
    ray: Any = importlib.import_module("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        yield workers
    finally:
        await workers.aclose()


async def test_there_is_a_worker_for_each_gpu_and_each_sees_its_own(head: Head, tmp_path: Path) -> None:
    async with connected(head, partial(embedded_model, cache=tmp_path), on_gpus=True) as workers:
        ray: Any = importlib.import_module("ray")
        assert (await workers.demand()).workers == 2
        started = await asyncio.gather(*(workers.start_worker(number) for number in range(2)))
        names = await asyncio.to_thread(ray.util.list_named_actors)
        actors = [ray.get_actor(name) for name in names]
        seen = [await actor.__ray_call__.remote(visible) for actor in actors]
        assert sorted(seen) == ["0", "1"]
        for one in started:
            await one.worker.stop()


async def test_a_worker_that_loads_is_held(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "HOLD_EVERY_S", 0.5)
    async with connected(head, partial(slow_model, tmp_path), workers=1) as workers:
        started = await workers.start_worker(0)
        assert started.facts.description.id == "embedded"
        await started.worker.stop()


async def test_a_worker_that_could_not_load_for_a_defect_is_replaced_by_a_new_one(head: Head, tmp_path: Path) -> None:
    async with connected(head, partial(model_that_fails_once, tmp_path), workers=1) as workers:
        with pytest.raises(RuntimeError, match="a defect"):
            await workers.start_worker(0)
        started = await workers.start_worker(0)
        assert started.facts.description.id == "embedded"
        await started.worker.stop()


async def test_a_worker_that_hangs_is_killed_and_its_windows_are_lost(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "HOLD_EVERY_S", 0.5)
    monkeypatch.setattr(cluster, "_HANGS_S", 5.0)
    async with connected(head, partial(embedded_model, cache=tmp_path), workers=1) as workers:
        started = await workers.start_worker(0)
        assert isinstance(started.worker, RayWorker)
        pid = await started.worker.pid()
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(WorkerLostError):
            await started.worker.run([Window(0, EncoderJob(np.ones(16000, np.float32)), Urgency.SHORT)])
        while started.worker not in (await workers.demand()).lost:
            await asyncio.sleep(0.1)
        while psutil.pid_exists(pid):
            await asyncio.sleep(0.1)
        successor = await workers.start_worker(0)
        assert isinstance(successor.worker, RayWorker)
        assert await successor.worker.pid() != pid
        await successor.worker.stop()


async def test_a_worker_whose_line_was_cut_is_lost_and_found_again(head: Head, tmp_path: Path) -> None:
    async with connected(head, partial(embedded_model, cache=tmp_path), workers=1) as workers:
        started = await workers.start_worker(0)
        assert isinstance(started.worker, RayWorker)
        pid = await started.worker.pid()
        window = Window(0, EncoderJob(np.zeros(16000, np.float32)), Urgency.SHORT)
        ((number, _),) = before = await started.worker.run([window])
        assert number == 0
        ray: Any = importlib.import_module("ray")
        (name,) = await asyncio.to_thread(ray.util.list_named_actors)
        actor = ray.get_actor(name)
        assert await actor.__ray_call__.remote(lines_cut, (await actor.door.remote()).port) == 1
        with pytest.raises(WorkerLostError):
            await started.worker.run([window])
        again = await workers.start_worker(0)
        assert isinstance(again.worker, RayWorker)
        assert await again.worker.pid() == pid
        assert await again.worker.run([window]) == before
        await again.worker.stop()


async def test_windows_of_a_worker_that_ray_finds_dead_are_lost_though_its_line_is_silent(head: Head) -> None:
    async with connected(head, partial(embedded_model, cache=Path()), workers=1):
        ray: Any = importlib.import_module("ray")

        class Gone:
            """An actor on a machine that was unplugged."""

            def __getattr__(self, _: str) -> "Gone":
                return self

            async def remote(self, *_: object) -> Door:
                if self.listening:
                    return door
                raise ray.exceptions.ActorDiedError

            listening = True

        async def never(_front: str, _head: bytes, _sound: bytes) -> bytes:
            await asyncio.Event().wait()
            return b""

        server, door = await listen("127.0.0.1", never)
        actor = Gone()
        worker = RayWorker(actor, "0123456789abcdef", set())
        await worker.connect()
        call = asyncio.create_task(worker.run([Window(0, EncoderJob(np.zeros(1, np.float32)), Urgency.SHORT)]))
        await asyncio.sleep(0)
        actor.listening = False
        with pytest.raises(WorkerLostError):
            await worker.hold()
        with pytest.raises(WorkerLostError):
            await asyncio.wait_for(call, 5)
        server.close()
