"""A checkpoint's tensors, read one at a time, so that a checkpoint of any size takes the memory of its largest tensor."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes  # registers bfloat16 with numpy, where safetensors asks for it by name, too
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ...domain.errors import ModelLoadError

_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class CheckpointTensors:
    """The tensors of a ``model.safetensors``.

    Attributes:
        path: Where they are.
        on_read: Is told, after each tensor, how many bytes it took in the file.
        rounded: Whether to round them to bfloat16.
    """

    path: Path
    on_read: Callable[[int], None]
    rounded: bool = False

    def read(self, name: str, *shape: int) -> NDArray[np.float32]:
        """One tensor, in float32.

        The file is opened for each of them: safetensors maps it, and what was read of it counts as resident memory
        until it is closed. For 700 tensors of 1.2 GB that is 23 MB instead of all of it, in the same time.

        Args:
            name: As the checkpoint has it.
            shape: What its shape must be.

        Raises:
            ModelLoadError: There is no such tensor, or it is of another shape, or no finite floating-point numbers.
        """
        try:
            with safe_open(self.path, "numpy") as file:
                found = file.get_slice(name)
                stored_as, stored_shape = found.get_dtype(), tuple(found.get_shape())
                if stored_as not in _FLOATS:
                    raise ModelLoadError(f"{self.path}: {name} is stored as {stored_as}: not supported.")
                if stored_shape != shape:
                    raise ModelLoadError(f"{self.path}: {name} has shape {stored_shape}, not {shape}.")
                stored = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelLoadError(f"{self.path}: {name} cannot be read: {error}") from error
        self.on_read(stored.nbytes)
        rounded = stored.astype(ml_dtypes.bfloat16) if self.rounded else stored
        tensor: NDArray[np.float32] = rounded.astype(np.float32, copy=False)
        if not np.isfinite(tensor).all():
            raise ModelLoadError(f"{self.path}: {name} holds numbers that are not finite.")
        return tensor
