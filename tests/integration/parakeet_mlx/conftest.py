from typing import cast

import mlx.core as mx
import pytest
from parakeet_mlx import ParakeetTDT
from parakeet_mlx.utils import from_config

from parakeet_service.adapters.inference.checkpoint import locate


@pytest.fixture(scope="module")
def model() -> ParakeetTDT:
    """The embedded model as parakeet-mlx reads it, in float32."""
    checkpoint = locate("embedded", offline=True)
    model = cast("ParakeetTDT", from_config(checkpoint.config))
    model.load_weights(str(checkpoint.weights))
    model.set_dtype(mx.float32)
    return model
