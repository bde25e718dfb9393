import signal
import subprocess
import sys
from pathlib import Path

import pytest

from parakeet_service.adapters.inference.checkpoint import Checkpoint
from parakeet_service.adapters.inference.progress import Progress, Stage
from parakeet_service.adapters.onnx.loading import load
from parakeet_service.adapters.onnx.saturation import saturates
from parakeet_service.adapters.onnx.sessions import check_providers, open_session
from parakeet_service.domain.errors import ModelLoadError

from .checkpoints import random_model, save, small_config

LOAD = """
import json, sys
from pathlib import Path
from parakeet_service.adapters.inference.progress import Progress
from parakeet_service.adapters.onnx.loading import load
from parakeet_service.config.logs import configure_logging

class Told(Progress):
    def add(self, size_bytes):
        super().add(size_bytes)
        print(self.stage.done_bytes / self.stage.total_bytes, flush=True)

configure_logging(level="WARNING", log_format="json")
directory, cache = map(Path, sys.argv[1:])
config = json.loads((directory / "config.json").read_text())
load("m", config, directory / "model.safetensors", precision="int8", cache=cache, threads=1, progress=Told())
print("mlx" in sys.modules, "parakeet_mlx" in sys.modules, "torch" in sys.modules, "librosa" in sys.modules)
"""


def built(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


class Told(Progress):
    """Keeps all that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[Stage] = []

    def add(self, size_bytes: int) -> None:
        super().add(size_bytes)
        if self.stage is not None:
            self.stages.append(self.stage)


def test_builds_once_with_progress(tmp_path: Path, embedded: Checkpoint) -> None:
    def told() -> list[Stage]:
        progress = Told()
        load(
            "embedded",
            embedded.config,
            embedded.weights,
            precision="int8",
            cache=tmp_path,
            threads=1,
            progress=progress,
        )
        assert progress.stage is None
        return progress.stages

    first, second = told(), told()

    done = [stage.done_bytes for stage in first]
    size_bytes = embedded.weights.stat().st_size
    assert done == sorted(done)
    assert 0.9 * size_bytes < done[-1] <= size_bytes
    assert {(stage.doing, stage.total_bytes) for stage in first} == {("building", size_bytes)}
    assert second == []
    assert len(built(tmp_path)) == 1


def test_keeps_each_precision_apart(tmp_path: Path, embedded: Checkpoint) -> None:
    load("embedded", embedded.config, embedded.weights, precision="int8", cache=tmp_path, threads=1)
    load("embedded", embedded.config, embedded.weights, precision="fp32", cache=tmp_path, threads=1)

    sizes = sorted(sum(path.stat().st_size for path in directory.iterdir()) for directory in built(tmp_path))

    assert len(sizes) == 2
    assert sizes[0] < 0.4 * sizes[1]


def test_killed_in_the_middle_leaves_nothing_half_made(tmp_path: Path, embedded: Checkpoint) -> None:
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", LOAD, str(embedded.weights.parent), str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while float(process.stdout.readline()) < 0.3:
            pass
        process.send_signal(signal.SIGKILL)
    assert [path.suffix for path in built(cache)] == [".partial"]

    answer = subprocess.run(command, check=True, capture_output=True, text=True)

    assert len(answer.stdout.splitlines()) > 100
    assert [path.suffix for path in built(cache)] == [""]


def test_needs_neither_mlx_nor_pytorch(tmp_path: Path, embedded: Checkpoint) -> None:
    command = [sys.executable, "-c", LOAD, str(embedded.weights.parent), str(tmp_path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "False False False False"


def test_says_what_a_checkpoint_lacks_and_leaves_nothing(tmp_path: Path) -> None:
    config = small_config()
    checkpoint = save(random_model(config), config, tmp_path)
    config["encoder"]["n_layers"] = 3
    cache = tmp_path / "cache"

    with pytest.raises(ModelLoadError, match=r"encoder\.layers\.2"):
        load("m", config, checkpoint.weights, precision="fp32", cache=cache, threads=1)

    assert built(cache) == []


def test_says_that_the_weights_cannot_be_read(tmp_path: Path, embedded: Checkpoint) -> None:
    absent = tmp_path / "model.safetensors"
    with pytest.raises(ModelLoadError, match=r"model\.safetensors"):
        load("m", embedded.config, absent, precision="fp32", cache=tmp_path / "cache", threads=1)


def test_refuses_providers_that_are_not_there() -> None:
    with pytest.raises(ModelLoadError, match=r"no NoSuchProvider; it has .*CPUExecutionProvider"):
        check_providers(["CPUExecutionProvider", "NoSuchProvider"])


def test_says_which_graph_cannot_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ModelLoadError, match=r"encoder\.onnx"):
        open_session(path, threads=1)


def test_finds_out_whether_products_saturate() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    if "avx2" not in flags:
        pytest.skip("tells only of x86 under Linux")
    assert saturates() is not ("avx512_vnni" in flags or "avx_vnni" in flags)
