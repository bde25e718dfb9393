"""The process that keeps a node of Ray; instead of Ray a script, which says which process it is and sleeps."""

import os
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

_RAY = """
import os, pathlib, sys, time
place = pathlib.Path(sys.argv[-1])
(place / "new").write_text(str(os.getpid()))
(place / "new").rename(place / "pid")
time.sleep(3600)
"""


@pytest.fixture
def keeper(tmp_path: Path) -> Generator[subprocess.Popen[bytes]]:
    scripts = tmp_path / "ray" / "scripts"
    scripts.mkdir(parents=True)
    for module, text in (
        (scripts.parent / "__init__.py", ""),
        (scripts / "__init__.py", ""),
        (scripts / "scripts.py", _RAY),
    ):
        module.write_text(text)
    (tmp_path / "own").mkdir()
    command = [sys.executable, "-P", "-m", "parakeet_service.adapters.ray.node", str(tmp_path / "own"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True) as process:
        yield process
        process.kill()


def _node(place: Path) -> psutil.Process:
    while not (place / "pid").exists():
        time.sleep(0.01)
    return psutil.Process(int((place / "pid").read_text()))


def _wait_for_end_of(node: psutil.Process) -> None:
    while node.is_running() and node.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def test_the_node_ends_with_the_owner(keeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    node = _node(tmp_path)
    assert keeper.stdin is not None
    keeper.stdin.close()
    _wait_for_end_of(node)
    keeper.wait()
    assert not (tmp_path / "own").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_node_ends_when_its_keeper_is_killed(keeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    node = _node(tmp_path)
    keeper.kill()
    _wait_for_end_of(node)
