"""Which worker gets which GPU: Ray is told of two that are not there, and the engine computes on the CPU."""

import asyncio
import importlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from parakeet_service.adapters.onnx.model import onnx_model
from parakeet_service.adapters.ray.cluster import Cluster, RayWorkers
from tests.integration.ray.clusters import needs_ray, ray_head

pytestmark = needs_ray


def visible(_: object) -> str:
    """In a worker: the GPUs that it sees."""
    return os.environ["CUDA_VISIBLE_DEVICES"]


async def test_there_is_a_worker_for_each_gpu_and_each_sees_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the connection sets in this process is undone after the test.
    for name in (
        *("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"),
        *("RAY_max_direct_call_object_size", "RAY_task_events_report_interval_ms"),
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    make = partial(
        onnx_model,
        model_id="embedded",
        precision="fp32",
        offline=True,
        sample_rate_hz=16000,
        batch_size=1,
        most_waiting=64,
        most_streams=1,
        cache=tmp_path,
    )
    with ray_head("--num-gpus=2") as head:
        workers = RayWorkers(
            make, Cluster(address=head.settings["RAY_ADDRESS"], token=head.settings["CLUSTER_TOKEN"], on_gpus=True)
        )
        await workers.connect()
        # Not before: Ray reads the environment when it is imported.
        ray: Any = importlib.import_module("ray")

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        try:
            assert (await workers.demand()).workers == 2
            started = await asyncio.gather(*(workers.start_worker(number) for number in range(2)))
            names = await asyncio.to_thread(ray.util.list_named_actors)
            actors = [ray.get_actor(name) for name in names]
            seen = [await actor.__ray_call__.remote(visible) for actor in actors]
            assert sorted(seen) == ["0", "1"]
            for one in started:
                await one.worker.stop()
        finally:
            await workers.aclose()
