from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.convolution import Conv1d
from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.linear import Linear
from parakeet_mlx.alignment import AlignedResult, AlignedToken
from parakeet_mlx.audio import PreprocessArgs
from parakeet_mlx.boost import Machine
from parakeet_mlx.conformer import Conformer, ConformerArgs

class LSTMLayer(Module):
    Wx: mx.array
    Wh: mx.array
    bias: mx.array

class LSTM(Module):
    lstm: list[LSTMLayer]

class Prediction(TypedDict):
    embed: Embedding
    dec_rnn: LSTM

class PredictNetwork(Module):
    prediction: Prediction

class JointNetwork(Module):
    pred: Linear
    enc: Linear
    joint_net: tuple[Callable[[mx.array], mx.array], Callable[[mx.array], mx.array], Linear]

class Beam:
    def __init__(self, beam_size: int = ..., *, booster: Machine[Any, int] = ...) -> None: ...

class DecodingConfig:
    def __init__(self, decoding: Beam = ...) -> None: ...

class BaseParakeet(Module):
    vocabulary: list[str]
    preprocessor_config: PreprocessArgs
    encoder_config: ConformerArgs
    encoder: Conformer
    def parameters(self) -> dict[str, Any]: ...
    @property
    def time_ratio(self) -> float: ...
    def generate(self, mel: mx.array) -> list[AlignedResult]: ...
    def transcribe(self, path: Path | str, *, dtype: mx.Dtype = ...) -> AlignedResult: ...

class ParakeetTDT(BaseParakeet):
    durations: list[int]
    max_symbols: Any  # as the configuration has it
    decoder: PredictNetwork
    joint: JointNetwork
    def decode(
        self, features: mx.array, lengths: mx.array | None = None
    ) -> tuple[list[list[AlignedToken]], list[object]]: ...
    def decode_beam(
        self, features: mx.array, *, config: DecodingConfig = ...
    ) -> tuple[list[list[AlignedToken]], list[object]]: ...

class ParakeetTDTCTC(ParakeetTDT): ...

class ParakeetRNNT(BaseParakeet):
    max_symbols: Any  # as the configuration has it
    decoder: PredictNetwork
    joint: JointNetwork
    def decode(
        self, features: mx.array, lengths: mx.array | None = None
    ) -> tuple[list[list[AlignedToken]], list[object]]: ...
    def decode_beam(
        self, features: mx.array, *, config: DecodingConfig = ...
    ) -> tuple[list[list[AlignedToken]], list[object]]: ...

class ConvASRDecoder(Module):
    decoder_layers: list[Conv1d]

class ParakeetCTC(BaseParakeet):
    decoder: ConvASRDecoder
    def decode(self, features: mx.array, lengths: mx.array) -> list[list[AlignedToken]]: ...
