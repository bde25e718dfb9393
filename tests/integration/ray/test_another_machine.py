"""A service on a machine where no Ray runs joins the cluster of another one: two network namespaces are the machines."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.integration.processes import started, wait_until_ok
from tests.integration.ray.clusters import SERVE, load, needs_ray, ray_head, service, workers_among

pytestmark = needs_ray

HERE, THERE = "10.213.77.1", "10.213.77.2"


def _ip(*words: str) -> int:
    return subprocess.run(["ip", *words], stderr=subprocess.DEVNULL, check=False).returncode


@contextmanager
def other_machine() -> Generator[str]:
    """Name of a network namespace at the address `THERE`, which reaches this one at `HERE`."""
    name, cable = f"parakeet-{os.getpid()}", f"prk{os.getpid()}"
    if sys.platform != "linux" or os.geteuid() or shutil.which("ip") is None or _ip("netns", "add", name):
        pytest.skip("needs network namespaces: root on Linux, and iproute2")
    try:
        steps = (
            ("link", "add", f"{cable}a", "type", "veth", "peer", "name", f"{cable}b", "netns", name),
            ("address", "add", f"{HERE}/30", "dev", f"{cable}a"),
            ("link", "set", f"{cable}a", "up"),
            ("-n", name, "address", "add", f"{THERE}/30", "dev", f"{cable}b"),
            ("-n", name, "link", "set", f"{cable}b", "up"),
            ("-n", name, "link", "set", "lo", "up"),
        )
        assert [_ip(*step) for step in steps] == [0] * len(steps)
        yield name
    finally:
        # The cable goes with it.
        _ip("netns", "delete", name)


async def test_a_service_elsewhere_uses_the_workers_of_a_cluster(tmp_path: Path) -> None:
    with service(tmp_path) as (_, url):
        texts, finals = await load(url, uploads=1, sessions=1)
    with other_machine() as name, ray_head(more_nodes=True, address=HERE) as head:
        command = ("ip", "netns", "exec", name, *SERVE)
        with started(command, cwd=tmp_path, LOG_FORMAT="json", HOST=THERE, **head.settings) as server:
            url = server.wait_for_line("Listening on ")
            ready = await asyncio.to_thread(wait_until_ok, f"{url}/readyz")
            # The service's own node gets none.
            assert (ready.json()["workers_up"], ready.json()["workers_wanted"]) == (1, 1)
            assert await load(url, uploads=4, sessions=2) == (texts * 4, finals * 2)
            assert len(workers_among(head.process.children(recursive=True))) == 1
            family = psutil.Process(server.process.pid).children(recursive=True)
            assert workers_among(family) == []
            assert server.stop() == 0
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 60)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
