"""From MLX to numpy."""

from typing import TypeAlias

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]


def floats(array: mx.array) -> Floats:
    """A contiguous copy in float32; waits for the device."""
    return np.array(array.astype(mx.float32), dtype=np.float32, order="C")


def integers(array: mx.array) -> NDArray[np.int32]:
    """A copy in int32; waits for the device."""
    return np.array(array.astype(mx.int32), dtype=np.int32)
