import os
from pathlib import Path

import pytest

from parakeet_service.adapters.onnx.fingerprint import fingerprint


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    return path


def test_is_the_contents_not_the_place(tmp_path: Path, weights: Path) -> None:
    elsewhere = tmp_path / "copy.safetensors"
    elsewhere.write_bytes(weights.read_bytes())

    here = fingerprint({"a": 1, "b": 2}, weights, tmp_path / "memo", "int8")

    assert fingerprint({"b": 2, "a": 1}, elsewhere, tmp_path / "memo", "int8") == here


def test_changes_with_everything_that_counts(tmp_path: Path, weights: Path) -> None:
    memo = tmp_path / "memo"
    found = {
        fingerprint({"a": 1}, weights, memo, 1, "int8"),
        fingerprint({"a": 2}, weights, memo, 1, "int8"),
        fingerprint({"a": 1}, weights, memo, 2, "int8"),
        fingerprint({"a": 1}, weights, memo, 1, "fp32"),
    }
    weights.write_bytes(b"others!")
    os.utime(weights, ns=(1, 1))

    assert len(found | {fingerprint({"a": 1}, weights, memo, 1, "int8")}) == 5


def test_reads_the_weights_only_once(tmp_path: Path, weights: Path) -> None:
    memo = tmp_path / "memo"
    before = fingerprint({}, weights, memo)
    stat = weights.stat()
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert fingerprint({}, weights, memo) == before


def test_does_not_trust_a_memo_that_was_cut_off(tmp_path: Path, weights: Path) -> None:
    memo = tmp_path / "memo"
    before = fingerprint({}, weights, memo)
    for path in memo.iterdir():
        path.write_text(path.read_text()[:10])

    assert fingerprint({}, weights, memo) == before
