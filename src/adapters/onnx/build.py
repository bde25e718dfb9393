"""From a checkpoint to the graphs that ONNX Runtime reads, one tensor at a time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from .architecture import Architecture
from .dense import Multiply, MultiplyInt8, multiply_float32
from .encoder_graph import add_encoder
from .graph import ConstantsFile, Graph
from .tensors import CheckpointTensors
from .transducer_graph import add_joint, add_prediction

Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
"""What the weights are rounded to. Dense layers of int8 are multiplied so; all else is computed in float32."""

BUILDER_VERSION = 2
"""Goes up with every change of the graphs: those in a cache are built again."""

ENCODER, PREDICTION, JOINT = "encoder.onnx", "prediction.onnx", "joint.onnx"
_CONSTANTS = "constants.bin"


def build(
    directory: Path,
    architecture: Architecture,
    weights: Path,
    *,
    precision: Precision,
    top: int,
    on_read: Callable[[int], None],
) -> None:
    """Write a model's graphs and the file of their constants.

    Args:
        directory: Is there, and empty.
        architecture: The model's.
        weights: Its ``model.safetensors``.
        precision: Of the weights; int8 rounds those of the dense layers.
        top: See `MultiplyInt8`.
        on_read: Is told, after each tensor, how many bytes it took in the file.

    Raises:
        ModelLoadError: A tensor is missing, or is not what the architecture asks for.
        OSError: A file cannot be written.
    """
    multiply: Multiply = MultiplyInt8(top) if precision == "int8" else multiply_float32
    tensors = CheckpointTensors(weights, on_read, rounded=precision == "bf16")
    parts = {ENCODER: partial(add_encoder, multiply=multiply)}
    if architecture.transducer is not None:
        parts |= {PREDICTION: partial(add_prediction, multiply=multiply), JOINT: partial(add_joint, multiply=multiply)}
    with (directory / _CONSTANTS).open("wb") as file:
        constants = ConstantsFile(_CONSTANTS, file)
        for name, add in parts.items():
            graph = Graph(constants)
            add(graph, architecture, tensors)
            (directory / name).write_bytes(graph.model(Path(name).stem).SerializeToString())
