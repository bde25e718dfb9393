"""Makes the two models in ``src/assets/silero-vad`` from Silero's own: the same network, in products of matrices.

    pip download --no-deps silero-vad==6.2.3
    unzip -j silero_vad-6.2.3-*.whl silero_vad/data/silero_vad_16k_sequence.onnx
    uv run --no-project --python 3.11 --with onnx==1.23.2 --with onnxruntime==1.32.0 scripts/make_silero_vad.py

The original's convolutions run over the four spectra of one frame, and ONNX Runtime computes each frame's alone, as
products so narrow that most of the processor idles. Here all frames are the rows of one product. Taps that only ever
see padding are left out, and many streams may be read at once. What needs nothing but the frame itself, and what goes
from frame to frame, are a model each: several processors can share the first for one stream.
"""

import hashlib
import sys
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ORIGINAL_SHA256 = "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"
TOLERANCE = 1e-4
"""How far a probability may lie from the original's."""

FRAME, CONTEXT = 512, 64
WINDOW, HOP = 256, 128
"""Of the spectra, in samples; a frame with its context has four."""
BINS = WINDOW // 2 + 1
HIDDEN = 128

_Shapes: TypeAlias = dict[str, list[int | str]]
_FRAMES: list[int | str] = ["frames", "streams"]
_STATE: list[int | str] = [1, "streams", HIDDEN]

_ROOT = Path(__file__).parents[1]
_ASSETS = _ROOT / "src" / "assets"


def main(original: Path) -> None:
    """Write the model, and what the original says of the bundled recording for the tests, if both agree."""
    content = original.read_bytes()
    if hashlib.sha256(content).hexdigest() != ORIGINAL_SHA256:
        raise SystemExit(f"{original} is not Silero VAD 6.2.3.")
    weights = {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(content).graph.initializer}
    encoder, recurrent = (
        model.SerializeToString(deterministic=True) for model in (_encoder(weights), _recurrent(weights))
    )

    frames = _frames(_ASSETS / "samples" / "demo.wav")
    state = np.zeros((1, 1, HIDDEN), np.float32)
    wanted = _run(content, "speech_probs", {"input": frames, "h": state, "c": state})
    encoded = _run(encoder, "encoded", {"input": frames[:, None]})
    given = _run(recurrent, "speech_probs", {"encoded": encoded, "h": state, "c": state})[:, 0]
    if (difference := float(np.abs(given - wanted).max())) > TOLERANCE:
        raise SystemExit(f"The probabilities differ by {difference}.")

    for name, model in (("encoder", encoder), ("recurrent", recurrent)):
        (_ASSETS / "silero-vad" / f"{name}.onnx").write_bytes(model)
        print(f"{name}.onnx: SHA-256 {hashlib.sha256(model).hexdigest()}")
    np.savetxt(_ROOT / "tests" / "integration" / "original_scores.txt", wanted, fmt="%.6f")
    print(f"probabilities within {difference:.1e}")


def _encoder(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = _Graph()
    shape = graph.add("Shape", "input", start=0, end=2)
    flat = graph.add("Reshape", "input", graph.constant("flat", np.int64([-1, CONTEXT + FRAME])))

    # From here on each row is a frame, whatever stream it is of.
    spectra = graph.concatenated(_spectra(graph, flat, weights["stft.forward_basis_buffer"][:, 0]))
    parts = graph.add("Reshape", spectra, graph.constant("parts", np.int64([-1, 2 * BINS])))
    squares = graph.add("Mul", parts, parts)
    power = graph.add("Add", graph.columns(squares, 0, BINS), graph.columns(squares, BINS, 2 * BINS))
    magnitudes = graph.add("Sqrt", power)
    rows = graph.add("Reshape", magnitudes, graph.constant("rows", np.int64([-1, 4 * BINS])))

    layer = _Convolution(graph, weights, "encoder.0")
    first = [
        layer.product(graph.columns(rows, max(at - 1, 0) * BINS, min(at + 2, 4) * BINS), taps)
        for at, taps in enumerate([(1, 2), (0, 1, 2), (0, 1, 2), (0, 1)])
    ]
    # The next two take every second step, which leaves two and then one of the four.
    layer = _Convolution(graph, weights, "encoder.1")
    second = [
        layer.product(graph.concatenated(first[:2]), (1, 2)),
        layer.product(graph.concatenated(first[1:]), (0, 1, 2)),
    ]
    third = _Convolution(graph, weights, "encoder.2").product(graph.concatenated(second), (1, 2))
    encoded = _Convolution(graph, weights, "encoder.3").product(third, (1,))

    width = graph.constant("width", np.int64([HIDDEN]))
    graph.add("Reshape", encoded, graph.add("Concat", shape, width, axis=0), outputs=("encoded",))
    return graph.model("silero_encoder", {"input": [*_FRAMES, CONTEXT + FRAME]}, {"encoded": [*_FRAMES, HIDDEN]})


def _recurrent(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = _Graph()
    recurrent = [graph.constant(name, weights[f"onnx::LSTM_{name}"]) for name in ("209", "210", "211")]
    states = graph.add("LSTM", "encoded", *recurrent, "", "h", "c", outputs=("", "hn", "cn"), hidden_size=HIDDEN)
    product = graph.add("MatMul", graph.add("Relu", states), graph.constant("output", weights["output.weight"][0]))
    logits = graph.add("Add", product, graph.constant("output_bias", weights["output.bias"]))
    shape = graph.add("Shape", "encoded", start=0, end=2)
    graph.add("Reshape", graph.add("Sigmoid", logits), shape, outputs=("speech_probs",))
    states_before, states_after = (dict.fromkeys(names, _STATE) for names in (("h", "c"), ("hn", "cn")))
    return graph.model(
        "silero_recurrent",
        {"encoded": [*_FRAMES, HIDDEN], **states_before},
        {"speech_probs": _FRAMES, **states_after},
    )


def _spectra(graph: "_Graph", frames: str, basis: np.ndarray) -> list[str]:
    """The four of each frame, real parts before imaginary ones; `basis` has a row for each part."""
    whole = graph.constant("basis", basis.T)
    # The last window reaches beyond its frame, which the original continues by its mirror image.
    inside = CONTEXT + FRAME - 3 * HOP
    mirrored = basis.T[:inside].astype(np.float64)
    for beyond in range(WINDOW - inside):
        mirrored[inside - 2 - beyond] += basis.T[inside + beyond]
    last = graph.constant("basis_mirrored", mirrored.astype(np.float32))
    return [
        graph.add("MatMul", graph.columns(frames, at * HOP, min(at * HOP + WINDOW, CONTEXT + FRAME)), kernel)
        for at, kernel in enumerate((whole, whole, whole, last))
    ]


class _Graph:
    """Nodes in the order of their work; values go by the number of their node."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def add(self, operator: str, *inputs: str, outputs: Sequence[str] = ("",), **attributes: object) -> str:
        number = len(self._nodes)
        names = [name or f"{operator}_{number}" for name in outputs]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0]

    def concatenated(self, inputs: Sequence[str]) -> str:
        return self.add("Concat", *inputs, axis=1)

    def columns(self, rows: str, begin: int, end: int) -> str:
        bounds = [self.constant(f"at_{bound}", np.int64([bound])) for bound in (begin, end)]
        return self.add("Slice", rows, *bounds, self.constant("columns", np.int64([1])))

    def model(self, name: str, inputs: _Shapes, outputs: _Shapes) -> onnx.ModelProto:
        def values(shapes: _Shapes) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

        constants = list(self._constants.values())
        graph = helper.make_graph(self._nodes, name, values(inputs), values(outputs), constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        return made


class _Convolution:
    """A layer with a kernel of three taps, and a ReLU."""

    def __init__(self, graph: _Graph, weights: dict[str, np.ndarray], name: str) -> None:
        self._graph = graph
        self._name = name
        self._kernel = weights[f"{name}.weight"]
        self._bias = graph.constant(f"{name}.bias", weights[f"{name}.bias"])

    def product(self, rows: str, taps: tuple[int, ...]) -> str:
        """One step of the output; `rows` are those steps of the input, side by side, that `taps` see."""
        kernel = np.concatenate([self._kernel[:, :, tap].T for tap in taps])
        name = self._graph.constant(f"{self._name}.weight.{''.join(map(str, taps))}", kernel)
        return self._graph.add("Relu", self._graph.add("Gemm", rows, name, self._bias))


def _frames(recording: Path) -> np.ndarray:
    with wave.open(str(recording)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    return np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + FRAME)[::FRAME].copy()


def _run(model: bytes, wanted: str, given: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run([wanted], given)[0]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "silero_vad_16k_sequence.onnx"))
