from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import DTypeLike
from safetensors.numpy import save_file

from parakeet_service.adapters.onnx.tensors import CheckpointTensors
from parakeet_service.domain.errors import ModelLoadError

NUMBERS = np.array([[0.5, -2.0, 3.0], [1.25, 0.0, -0.125]])


def ignore(count: int) -> None:
    del count


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("stored_as", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_reads_every_floating_point_format_as_float32(path: Path, stored_as: DTypeLike) -> None:
    save_file({"other": np.zeros(5, np.int64), "weight": NUMBERS.astype(stored_as)}, path)

    tensor = CheckpointTensors(path, ignore).read("weight", 2, 3)

    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, NUMBERS)


def test_tells_how_many_bytes_were_read(path: Path) -> None:
    save_file({"weight": NUMBERS.astype(np.float16)}, path)
    counts: list[int] = []
    tensors = CheckpointTensors(path, counts.append)

    tensors.read("weight", 2, 3)
    tensors.read("weight", 2, 3)

    assert counts == [12, 12]


@pytest.mark.parametrize(
    ("name", "shape", "complaint"),
    [
        ("absent", (2, 3), "absent"),
        ("weight", (3, 2), r"weight has shape \(2, 3\), not \(3, 2\)"),
        ("quantised", (2,), "quantised is stored as U32"),
    ],
)
def test_says_what_is_wrong_with_a_tensor(path: Path, name: str, shape: tuple[int, ...], complaint: str) -> None:
    save_file({"weight": NUMBERS, "quantised": np.zeros(2, np.uint32)}, path)

    with pytest.raises(ModelLoadError, match=complaint):
        CheckpointTensors(path, ignore).read(name, *shape)


@pytest.mark.parametrize("kept", [0, 7, 100, 200])
def test_says_that_a_file_is_cut_off(path: Path, kept: int) -> None:
    save_file({"weight": np.zeros((10, 10), np.float32)}, path)
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(ModelLoadError, match=r"model\.safetensors"):
        CheckpointTensors(path, ignore).read("weight", 10, 10)


def test_says_that_there_is_no_file(path: Path) -> None:
    with pytest.raises(ModelLoadError, match="weight cannot be read"):
        CheckpointTensors(path, ignore).read("weight", 1)
