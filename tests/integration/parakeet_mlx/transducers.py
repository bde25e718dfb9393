"""What the tests of encoder, decoders and engine share: small models, spans of speech, and generators' ends."""

from collections.abc import Generator
from typing import Literal, TypeVar, cast

import mlx.core as mx
import numpy as np
from parakeet_mlx.utils import from_config

from parakeet_service.adapters.inference.checkpoint import locate
from parakeet_service.adapters.parakeet_mlx.decoders.transducer import Transducer
from parakeet_service.domain.audio import Samples

RATE_HZ = 16000
T = TypeVar("T")


def clip_of(random: np.random.Generator, speech: Samples, *, shortest_s: float, longest_s: float) -> Samples:
    """A span of speech that begins and ends anywhere."""
    length = int(random.integers(int(shortest_s * RATE_HZ), int(longest_s * RATE_HZ)))
    start = int(random.integers(0, len(speech) - length))
    return speech[start : start + length]


def end_of(steps: Generator[None, None, T]) -> T:
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("T", end.value)


def random_transducer(kind: Literal["tdt", "rnnt"], *, layers: int, activation: str) -> Transducer:
    """A small model that emits tokens, blanks and durations in a lively mixture."""
    config = dict(locate("embedded", offline=True).config)
    config["encoder"] = {**config["encoder"], "n_layers": 1}
    config["decoder"] = {**config["decoder"], "prednet": {"pred_hidden": 64, "pred_rnn_layers": layers}}
    jointnet = {**config["joint"]["jointnet"], "pred_hidden": 64, "joint_hidden": 72, "activation": activation}
    config["joint"] = {**config["joint"], "jointnet": jointnet}
    if kind == "rnnt":
        config["model_defaults"] = {}
        config["decoding"] = {"greedy": {"max_symbols": 4}}
        config["joint"] = {**config["joint"], "num_extra_outputs": 0}
    model = cast("Transducer", from_config(config))
    random = np.random.default_rng(5)
    out = model.joint.joint_net[-1]
    out.weight = mx.array(random.normal(0, 1, out.weight.shape).astype(np.float32))
    bias = np.zeros(out.weight.shape[0], np.float32)
    bias[len(model.vocabulary)] = {"relu": 15, "tanh": 12, "sigmoid": 7}[activation]
    out.bias = mx.array(bias)
    return model
