"""Runs the ONNX exports of Kokoro and Piper on PyTorch, and so on a GPU for which there is no onnxruntime.

Only the operators of those two networks. Kokoro's 8-bit products are computed in floating point from the weights made
wide again: what `DynamicQuantizeLinear` would have rounded stays as it is.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

Value = Any
_TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}


class OnnxOnTorch:
    """A graph that is run node by node; shapes are computed on the CPU, so that the GPU is rarely waited for."""

    def __init__(self, path: Path, device: torch.device, *, more: Sequence[str] = ()) -> None:
        """Read the graph and compute once whatever does not depend on its inputs.

        Args:
            path: The export; weights of 16 bits are made wide.
            device: Where all but shapes is computed.
            more: Values within the graph that are wanted beside its first output.
        """
        graph = onnx.load(str(path)).graph
        self._device = device
        constants: dict[str, Value] = {"": None}
        constants.update({item.name: self._constant(numpy_helper.to_array(item)) for item in graph.initializer})
        self._plan: list[tuple[Callable[..., Value], list[str], list[str], list[str]]] = []
        for node in graph.node:
            attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            run = _operator(node.op_type, attributes)
            names = list(node.input)
            if all(name in constants for name in names) and node.op_type != "ConstantOfShape":
                outputs = run(*(constants[name] for name in names))
                constants.update(zip(node.output, outputs if len(node.output) > 1 else (outputs,), strict=False))
            else:
                self._plan.append((run, names, list(node.output), []))
        last: dict[str, int] = {}
        for place, (_, inputs, _, _) in enumerate(self._plan):
            last.update(dict.fromkeys(inputs, place))
        for name, place in last.items():
            if name not in constants and name not in (graph.output[0].name, *more):
                self._plan[place][3].append(name)
        self._constants = constants
        self._outputs = [graph.output[0].name, *more]

    def constant(self, name: str) -> Tensor:
        """A tensor of the graph's own; an input of its name takes its place."""
        return self._constants[name]

    def _constant(self, array: np.ndarray) -> Tensor:
        if array.dtype in (np.int8, np.uint8):
            return torch.from_numpy(array.astype(np.float32)).to(self._device)
        value = torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array.copy())
        return value if array.dtype.kind in "ib" else value.to(self._device)

    @torch.inference_mode()
    def __call__(self, **inputs: Tensor) -> list[Tensor]:
        """The graph's first output, and what else was wanted, for inputs that already are on the device."""
        values = dict(self._constants)
        values.update(inputs)
        for run, names, outputs, spent in self._plan:
            made = run(*[values[name] for name in names])
            if len(outputs) == 1:
                values[outputs[0]] = made
            else:
                values.update(zip(outputs, made, strict=False))
            for name in spent:
                del values[name]
        return [values[name] for name in self._outputs]


def _together(*values: Tensor) -> list[Tensor]:
    """Arrays of one device: the GPU's, if one of them is there; scalars may stay where they are."""
    device = next((value.device for value in values if value.device.type != "cpu"), None)
    if device is None:
        return list(values)
    return [value.to(device) if value.ndim or value.dtype == torch.bool else value for value in values]


def _pair(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda a, b: compute(*_together(a, b))


def _reduced(compute: Callable[..., Tensor], attributes: dict[str, Any]) -> Callable[..., Tensor]:
    keep = bool(attributes.get("keepdims", 1))
    fixed = attributes.get("axes")  # an input in the newer of the two exports

    def reduce(x: Tensor, axes: Tensor | None = None) -> Tensor:
        wanted = fixed if axes is None else axes.tolist()
        return compute(x, dim=list(range(x.ndim)) if wanted is None else wanted, keepdim=keep)

    return reduce


def _taken(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    axis = int(attributes.get("axis", 0))
    return lambda x, places: x.gather(axis, places.to(x.device))


def _picked(x: Tensor, indices: Tensor) -> Tensor:
    return x[tuple(indices.to(x.device).unbind(-1))]


def _divided(a: Tensor, b: Tensor) -> Tensor:
    a, b = _together(a, b)
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="floor")


def _gathered(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    axis = int(attributes.get("axis", 0))

    def gather(data: Tensor, indices: Tensor) -> Tensor:
        if indices.ndim == 0:
            return data.select(axis, int(indices))
        flat = data.index_select(axis, indices.reshape(-1).to(data.device).long())
        return flat.reshape(*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])

    return gather


def _sliced(
    data: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    where = axes.tolist() if axes is not None else list(range(len(starts)))
    every = steps.tolist() if steps is not None else [1] * len(where)
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), where, every, strict=True):
        if step < 0:
            data = data.flip(axis)  # only whole reversals occur
            continue
        cut = [slice(None)] * data.ndim
        cut[axis] = slice(start, end, step)
        data = data[tuple(cut)]
    return data


def _reshaped(data: Tensor, shape: Tensor) -> Tensor:
    return data.reshape([data.shape[place] if size == 0 else size for place, size in enumerate(shape.tolist())])


def _convolved(attributes: dict[str, Any], *, transposed: bool = False) -> Callable[..., Tensor]:
    pads = attributes.get("pads", [0, 0])
    options: dict[str, Any] = {
        "stride": attributes.get("strides", [1]),
        "dilation": attributes.get("dilations", [1]),
        "groups": attributes.get("group", 1),
        "padding": pads[: len(pads) // 2],
    }
    if transposed:
        options["output_padding"] = attributes.get("output_padding", [0])
        return lambda x, w, b=None: functional.conv_transpose1d(x, w, b, **options)
    return lambda x, w, b=None: functional.conv1d(x, w, b, **options)


def _integer_convolved(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    convolve = _convolved(attributes)
    return lambda x, w, _x_zero, w_zero: convolve(x, w - w_zero)


def _integer_product(x: Tensor, w: Tensor, _x_zero: Tensor, w_zero: Tensor) -> Tensor:
    return x @ (w - w_zero)


def _layer_norm(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    epsilon = float(attributes["epsilon"])
    return lambda x, weight, bias: functional.layer_norm(x, x.shape[-1:], weight, bias, epsilon)


def _skip_layer_norm(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    norm = _layer_norm(attributes)
    return lambda x, skip, weight, bias: norm(x + skip, weight, bias)


def _lstm(attributes: dict[str, Any]) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    hidden = int(attributes["hidden_size"])
    ready: list[torch.nn.LSTM] = []

    def reorder(gates: Tensor) -> Tensor:  # ONNX: i, o, f, c; PyTorch: i, f, c, o; along the first axis
        i, o, f, c = gates.split(hidden)
        return torch.cat([i, f, c, o])

    def run(
        x: Tensor, w: Tensor, r: Tensor, b: Tensor, _n: None, h: Tensor, c: Tensor, _p: None, *scales: Tensor
    ) -> Any:
        if not ready:
            layer = torch.nn.LSTM(w.shape[1], hidden, bidirectional=True).to(x.device)
            w_scale, w_zero, r_scale, r_zero = scales
            for way, end in enumerate(("", "_reverse")):
                values = {
                    "weight_ih_l0": reorder(((w[way] - w_zero[way]) * w_scale[way]).T),
                    "weight_hh_l0": reorder(((r[way] - r_zero[way]) * r_scale[way]).T),
                    "bias_ih_l0": reorder(b[way, : 4 * hidden]),
                    "bias_hh_l0": reorder(b[way, 4 * hidden :]),
                }
                for name, value in values.items():
                    getattr(layer, name + end).data.copy_(value)
            layer.flatten_parameters()
            ready.append(layer)
        out, (h_last, c_last) = ready[0](x, (h.to(x.device), c.to(x.device)))
        return out.unflatten(2, (2, hidden)).transpose(1, 2), h_last, c_last

    return run


def _resized(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    linear = attributes["mode"] == b"linear"

    def resize(x: Tensor, _roi: Tensor | None, scales: Tensor) -> Tensor:
        factor = float(scales[-1])
        length = math.floor(x.shape[-1] * factor)
        if linear:
            return functional.interpolate(x, size=length, mode="linear", align_corners=False)
        return functional.interpolate(x, size=length, mode="nearest")

    return resize


def _stft(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    onesided = bool(attributes["onesided"])

    def transform(signal: Tensor, step: Tensor, window: Tensor, length: Tensor) -> Tensor:
        signal = signal[..., 0] if signal.ndim == 3 else signal
        frames = signal.unfold(-1, int(length), int(step)) * window
        spectrum = torch.fft.rfft(frames) if onesided else torch.fft.fft(frames)
        return torch.view_as_real(spectrum)

    return transform


def _scattered(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    data = data.clone()
    indices, updates = indices.to(data.device), updates.to(data.device)
    data[tuple(indices.unbind(-1))] = updates
    return data


def _split(attributes: dict[str, Any]) -> Callable[..., Any]:
    axis = int(attributes.get("axis", 0))
    return lambda x, sizes: x.split(sizes.tolist(), axis)


def _filled(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    value = numpy_helper.to_array(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
    return lambda shape: torch.full(shape.tolist(), value.item(), dtype=torch.from_numpy(value.copy()).dtype)


def _fused_product(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    first, second, alpha = attributes["transA"], attributes["transB"], float(attributes["alpha"])
    return lambda a, b: alpha * ((a.mT if first else a) @ (b.mT if second else b))


def _padded(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    reflected = attributes.get("mode", b"constant") == b"reflect"

    def pad(x: Tensor, pads: Tensor, value: Tensor | None = None) -> Tensor:
        around = pads.tolist()
        if not any(around):
            return x
        if reflected:  # only along the last axis
            flat = functional.pad(x.reshape(1, -1, x.shape[-1]), (around[x.ndim - 1], around[-1]), mode="reflect")
            return flat.reshape(*x.shape[:-1], -1)
        pairs = [side for axis in reversed(range(x.ndim)) for side in (around[axis], around[axis + x.ndim])]
        return functional.pad(x, pairs, value=0.0 if value is None else float(value))

    return pad


def _random(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    mean, scale = float(attributes.get("mean", 0.0)), float(attributes.get("scale", 1.0))
    return lambda x: mean + scale * torch.randn(x.shape, device=x.device)


def _operator(kind: str, attributes: dict[str, Any]) -> Callable[..., Value]:
    to = _TYPES.get(attributes.get("to", 1))
    table: dict[str, Callable[..., Value]] = {
        "Add": _pair(torch.add),
        "And": _pair(torch.logical_and),
        # The one arctangent is of a quotient that is 0 / 0 in silence.
        "Atan": lambda x: torch.atan(torch.nan_to_num(x, nan=0.0, posinf=math.inf, neginf=-math.inf)),
        "Cast": lambda x: x.to(to),
        "Clip": lambda x, low, high=None: x.clamp(
            None if low is None else float(low), None if high is None else float(high)
        ),
        "Concat": lambda *xs: torch.cat(_together(*xs), int(attributes["axis"])),
        "Ceil": torch.ceil,
        "Cos": torch.cos,
        "CumSum": lambda x, axis: torch.cumsum(x, int(axis)),
        "DequantizeLinear": lambda x, scale, zero: (x.float() - zero) * scale,
        "Div": _divided,
        "DynamicQuantizeLinear": lambda x: (x, torch.ones(()), torch.zeros(())),
        "Equal": _pair(torch.eq),
        "Erf": torch.erf,
        "Exp": torch.exp,
        "Expand": lambda x, shape: x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist()))),
        "FastGelu": lambda x, bias=None: functional.gelu(x if bias is None else x + bias, approximate="tanh"),
        "Floor": torch.floor,
        "GatherND": _picked,
        "Greater": _pair(torch.gt),
        "GreaterOrEqual": _pair(torch.ge),
        "LeakyRelu": lambda x: functional.leaky_relu(x, float(attributes.get("alpha", 0.01))),
        "Less": _pair(torch.lt),
        "LessOrEqual": _pair(torch.le),
        "MatMul": _pair(torch.matmul),
        "MatMulInteger": _integer_product,
        "Mul": _pair(torch.mul),
        "Neg": torch.neg,
        "NonZero": lambda x: x.nonzero().T,
        "Not": torch.logical_not,
        "Pow": _pair(torch.pow),
        "Range": lambda start, end, step: torch.arange(int(start), int(end), int(step)),
        "Relu": torch.relu,
        "Reshape": _reshaped,
        "Round": torch.round,
        "ScatterND": _scattered,
        "Shape": lambda x: torch.tensor(x.shape),
        "Sigmoid": torch.sigmoid,
        "Sin": torch.sin,
        "Slice": _sliced,
        "Softplus": functional.softplus,
        "Softmax": lambda x: torch.softmax(x, int(attributes.get("axis", -1))),
        "Sqrt": torch.sqrt,
        "Squeeze": lambda x, axes: x.squeeze(tuple(axes.tolist())),
        "Sub": _pair(torch.sub),
        "Tanh": torch.tanh,
        "Transpose": lambda x: x.permute(attributes["perm"]),
        "Unsqueeze": lambda x, axes: _unsqueezed(x, axes.tolist()),
        "Where": lambda test, a, b: torch.where(*_together(test, a, b)),
    }
    if kind in table:
        return table[kind]
    made: dict[str, Callable[[dict[str, Any]], Callable[..., Value]]] = {
        "ConstantOfShape": _filled,
        "Conv": _convolved,
        "ConvInteger": _integer_convolved,
        "ConvTranspose": lambda given: _convolved(given, transposed=True),
        "DynamicQuantizeLSTM": _lstm,
        "FusedMatMul": _fused_product,
        "Gather": _gathered,
        "GatherElements": _taken,
        "LayerNormalization": _layer_norm,
        "Pad": _padded,
        "RandomNormalLike": _random,
        "ReduceMax": lambda given: _reduced(torch.amax, given),
        "ReduceMean": lambda given: _reduced(torch.mean, given),
        "ReduceSum": lambda given: _reduced(torch.sum, given),
        "Resize": _resized,
        "STFT": _stft,
        "SkipLayerNormalization": _skip_layer_norm,
        "Split": _split,
    }
    return made[kind](attributes)


def _unsqueezed(x: Tensor, axes: list[int]) -> Tensor:
    for axis in sorted(axis if axis >= 0 else axis + x.ndim + len(axes) for axis in axes):
        x = x.unsqueeze(axis)
    return x
