"""An ONNX graph under construction. Large constants go straight to a file beside it, and never pile up in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.helper import (
    make_attribute,
    make_graph,
    make_model,
    make_node,
    make_opsetid,
    make_tensor_value_info,
    np_dtype_to_tensor_dtype,
)
from onnx.numpy_helper import from_array

Attribute: TypeAlias = int | float | Sequence[int] | TensorProto
"""What a node may be told beside its inputs."""

OPSET = 21
IR_VERSION = 10
"""Both are read by every ONNX Runtime since 1.20; the last one for Intel Macs is 1.23."""
CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

_ALIGNMENT = 4096
"""Bytes: a page, so that ONNX Runtime can map each constant."""
_INLINE_BYTES = 1024
"""Constants of up to so many bytes are kept in the graph: ONNX Runtime reads the values of shapes and axes there."""


@dataclass(frozen=True, slots=True)
class ConstantsFile:
    """The file that holds the large constants of one or more graphs in the same directory."""

    name: str
    file: BinaryIO

    def append(self, array: NDArray[Any]) -> tuple[int, int]:
        """Write an array; gives its offset and its length in bytes."""
        self.file.write(bytes(-self.file.tell() % _ALIGNMENT))
        offset = self.file.tell()
        self.file.write(np.ascontiguousarray(array).data)
        return offset, array.nbytes


class Graph:
    """Nodes, constants, inputs and outputs; values are called by their names."""

    def __init__(self, constants: ConstantsFile | None) -> None:
        """Begin with nothing; without a file all constants are kept in the graph."""
        self._constants = constants
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._small: dict[tuple[bytes, str, tuple[int, ...]], str] = {}

    def input(self, name: str, dtype: type[np.generic], *shape: int | str) -> str:
        """Declare an input; a name instead of a number is an axis of any length."""
        self._inputs.append(make_tensor_value_info(name, np_dtype_to_tensor_dtype(np.dtype(dtype)), shape))
        return name

    def output(self, value: str, name: str, dtype: type[np.generic], *shape: int | str) -> None:
        """Declare that `value` is an output called `name`."""
        self._nodes.append(make_node("Identity", [value], [name]))
        self._outputs.append(make_tensor_value_info(name, np_dtype_to_tensor_dtype(np.dtype(dtype)), shape))

    def constant(self, array: NDArray[Any]) -> str:
        """A constant; equal small ones are one."""
        if self._constants is not None and array.nbytes > _INLINE_BYTES:
            return self._external(array, self._constants)
        key = (array.tobytes(), array.dtype.str, array.shape)
        if key not in self._small:
            self._small[key] = name = f"constant_{len(self._initializers)}"
            self._initializers.append(from_array(array, name))
        return self._small[key]

    def floats(self, *numbers: float) -> str:
        """A small constant of shape ``(n,)``, float32."""
        return self.constant(np.array(numbers, np.float32))

    def integers(self, *numbers: int) -> str:
        """A small constant of shape ``(n,)``, int64: a shape, or axes."""
        return self.constant(np.array(numbers, np.int64))

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Attribute) -> str:
        """Append a node with one output."""
        (output,) = self.add_many(operator, 1, *inputs, domain=domain, **attributes)
        return output

    def add_many(
        self, operator: str, outputs: int, *inputs: str, domain: str = "", **attributes: Attribute
    ) -> list[str]:
        """Append a node with several outputs."""
        names = [f"{operator}_{len(self._nodes)}_{number}" for number in range(outputs)]
        node = make_node(operator, list(inputs), names, domain=domain)
        node.attribute.extend(make_attribute(name, value) for name, value in attributes.items())
        self._nodes.append(node)
        return names

    def model(self, name: str) -> ModelProto:
        """The graph as it is now."""
        graph = make_graph(self._nodes, name, self._inputs, self._outputs, self._initializers)
        opsets = [make_opsetid("", OPSET), make_opsetid(CONTRIB, 1)]
        return make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="parakeet-service")

    def _external(self, array: NDArray[Any], constants: ConstantsFile) -> str:
        offset, length = constants.append(array)
        tensor = TensorProto(
            name=f"constant_{len(self._initializers)}",
            data_type=np_dtype_to_tensor_dtype(array.dtype),
            dims=array.shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", constants.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers.append(tensor)
        return tensor.name
