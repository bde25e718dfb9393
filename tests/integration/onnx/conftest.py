from pathlib import Path
from typing import cast

import mlx.core as mx
import pytest
from parakeet_mlx import ParakeetTDT
from parakeet_mlx.utils import from_config

from parakeet_service.adapters.inference.checkpoint import Checkpoint, locate
from parakeet_service.adapters.onnx.loading import Networks, load

EMBEDDED = locate("embedded", offline=True)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def embedded() -> Checkpoint:
    return EMBEDDED


@pytest.fixture(scope="session")
def model() -> ParakeetTDT:
    """The embedded model as parakeet-mlx reads it, in float32."""
    model = cast("ParakeetTDT", from_config(EMBEDDED.config))
    model.load_weights(str(EMBEDDED.weights))
    model.set_dtype(mx.float32)
    return model


@pytest.fixture(scope="session")
def float32(cache: Path) -> Networks:
    """The embedded model as we read it."""
    return load("embedded", EMBEDDED.config, EMBEDDED.weights, precision="fp32", cache=cache, threads=1)


@pytest.fixture(scope="session")
def int8(cache: Path) -> Networks:
    return load("embedded", EMBEDDED.config, EMBEDDED.weights, precision="int8", cache=cache, threads=1)
