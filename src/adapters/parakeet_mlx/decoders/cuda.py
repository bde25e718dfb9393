"""Greedy decoding on NVIDIA GPUs, in one kernel: the loop over the tokens runs on the device and waits for nobody.

Put together from MLX's operations, a step is some twenty kernels, and starting them takes longer than their work.
Here a few thread blocks share an utterance: each computes its part of every product, and they meet at a barrier.
"""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
import numpy as np
from mlx.nn.layers.activations import ReLU, Sigmoid, Tanh  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from ...inference.decoding import Decoded, DecodeRange, DecoderState, Emission
from ..arrays import Floats, floats, integers
from ..requirements import UnsupportedModelError
from .transducer import Transducer, durations_of, most_repeats_of

_THREADS = 512
_MULTIPROCESSOR_COUNT = 16
"""CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT of cuda.h."""
_MOST_PER_UTTERANCE = 16
_APART = 32
"""Each utterance's counter has a cache line of its own. MLX keeps the smallest arrays in memory shared with the host,
where it takes twenty times as long to meet at one."""
_LANES = 8
"""Numbers that a thread loads at once: the widths of the model must be multiples of it."""
_ACTIVATIONS: dict[type, int] = {ReLU: 0, Sigmoid: 1, Tanh: 2}
_CODE = Path(__file__).with_name("greedy_transducer.cu")


class CudaDecoder:
    """See `TransducerDecoder`; weights in their precision, sums in float32."""

    def __init__(self, model: Transducer) -> None:
        """Copy the decoder's and joint network's weights out of `model`, in the kernel's layout.

        Raises:
            UnsupportedModelError: The widths are not multiples of 8.
        """
        prediction, joint = model.decoder.prediction, model.joint
        layers = prediction["dec_rnn"].lstm
        self._blank = len(model.vocabulary)
        self._layers, self._width = len(layers), layers[0].Wh.shape[-1]
        self._project = joint.enc
        activation, *_, out = joint.joint_net
        self._joint = out.weight.shape[-1]
        if self._width % _LANES or self._joint % _LANES:
            raise UnsupportedModelError(f"widths {self._width} and {self._joint} are not multiples of {_LANES}")
        durations = durations_of(model)
        self._dtype = joint.enc.weight.dtype
        self._template = [
            ("LAYERS", self._layers),
            ("WIDTH", self._width),
            ("JOINT", self._joint),
            ("TOKENS", self._blank + 1),
            ("DURATIONS", len(durations)),
            ("MOST_REPEATS", most_repeats_of(model)),
            ("ACTIVATION", _ACTIVATIONS[type(activation)]),
            ("THREADS", _THREADS),
            ("APART", _APART),
        ]
        self._most_repeats = most_repeats_of(model)
        self._most_blocks = _multiprocessors()
        self._out_size = self._blank + 1 + len(durations)

        # The first layer's input is an embedding: its product with the weights is as well looked up.
        embeddings = prediction["embed"].weight[: self._blank].astype(mx.float32)
        table = embeddings @ layers[0].Wx.T.astype(mx.float32)
        # Before the first token the network sees zeros, whatever the blank's embedding holds.
        table = mx.concatenate([table, mx.zeros((1, 4 * self._width))]) + layers[0].bias.astype(mx.float32)
        deeper = [layer.Wx for layer in layers[1:]] or [layers[0].Wx]
        self._weights = [
            table,
            mx.stack([layer.Wh for layer in layers]).astype(self._dtype),
            mx.stack(deeper).astype(self._dtype),
            mx.stack([layer.bias for layer in layers]).astype(mx.float32),
            joint.pred.weight.astype(self._dtype),
            joint.pred.bias.astype(mx.float32),
            out.weight.astype(self._dtype),
            out.bias.astype(mx.float32),
            mx.array(durations or (0,), dtype=mx.int32),
        ]
        mx.eval(self._weights)  # pyright: ignore[reportUnknownMemberType] - its stub has no types
        self._kernel = cast(
            "Callable[..., list[mx.array]]",
            mx.fast.cuda_kernel(
                name="greedy_transducer",
                input_names=[
                    *("frames", "sizes", "where", "hidden_in", "cell_in"),
                    *("embedded", "hidden_weights", "input_weights", "biases"),
                    *("prediction_weights", "prediction_bias", "out_weights", "out_bias", "durations"),
                ],
                output_names=["emitted", "probability", "reached", "hidden", "cell", "scratch", "arrived"],
                source=_CODE.read_text(),
                header=_CODE.with_suffix(".cuh").read_text(),
            ),
        )

    def decode(self, encoded: mx.array, spans: Sequence[DecodeRange]) -> list[Decoded]:
        """See `TransducerDecoder`."""
        decoded: list[Decoded] = []
        for at in range(0, len(spans), self._most_blocks):
            part = slice(at, at + self._most_blocks)
            decoded += self._decode(self._project(encoded[part]), spans[part])
        return decoded

    def _decode(self, frames: mx.array, spans: Sequence[DecodeRange]) -> list[Decoded]:
        count = len(spans)
        longest = max(span.end - span.begin for span in spans)
        most = max(longest, 1) * self._most_repeats + self._most_repeats
        states = [span.state for span in spans]
        where = [(one.begin + one.state.skip, one.end, one.state.last, one.state.repeats) for one in spans]
        # Blocks that wait for each other must all run at once: at most one on each multiprocessor.
        blocks = 1
        while 2 * blocks * count <= self._most_blocks and blocks < _MOST_PER_UTTERANCE:
            blocks *= 2
        shape = (count, self._layers, self._width)
        scratch = self._layers * self._width + self._joint + 2 * self._out_size
        # What the kernel waits for must be there before it starts: others' kernels beside it could keep its blocks out.
        mx.eval(frames)  # pyright: ignore[reportUnknownMemberType]
        outputs = self._kernel(
            inputs=[
                frames,
                mx.array([frames.shape[1], most, blocks], dtype=mx.int32),
                mx.array(where, dtype=mx.int32),
                mx.array(np.stack([state.hidden for state in states])),
                mx.array(np.stack([state.cell for state in states])),
                *self._weights,
            ],
            template=self._template,
            grid=(count * blocks * _THREADS, 1, 1),
            threadgroup=(_THREADS, 1, 1),
            output_shapes=[
                (count, most, 3),
                (count, most),
                (count, 4),
                shape,
                shape,
                (count, scratch),
                (count, _APART),
            ],
            output_dtypes=[mx.int32, mx.float32, mx.int32, mx.float32, mx.float32, mx.float32, mx.int32],
            init_value=0,
        )
        emitted, probability, reached, hidden, cell, *_ = outputs
        return [
            Decoded(_emissions(tokens[:count], likelihoods), DecoderState(max(time - one.end, 0), last, repeats, h, c))
            for one, tokens, likelihoods, (time, count, last, repeats), h, c in zip(
                spans,
                integers(emitted),
                floats(probability),
                integers(reached).tolist(),
                floats(hidden),
                floats(cell),
                strict=True,
            )
        ]


def _emissions(tokens: NDArray[np.int32], likelihoods: Floats) -> tuple[Emission, ...]:
    return tuple(
        Emission(token, frame, frames, likelihood)
        for (token, frame, frames), likelihood in zip(tokens.tolist(), likelihoods.tolist(), strict=False)
    )


def _multiprocessors() -> int:
    """How many there are on the device that MLX uses: the first that CUDA shows us.

    Raises:
        RuntimeError: The driver does not say.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetAttribute(ctypes.byref(count), _MULTIPROCESSOR_COUNT, 0)
    if failed:
        raise RuntimeError(f"the CUDA driver does not say how many multiprocessors there are: error {failed}")
    return count.value
