"""From a checkpoint to an engine, or to one sentence that says why it cannot be used."""

import math
import sys
from functools import partial

import mlx.core as mx
from dacite import DaciteError
from parakeet_mlx import ParakeetCTC, ParakeetRNNT, ParakeetTDT
from parakeet_mlx.parakeet import BaseParakeet
from parakeet_mlx.utils import from_config

from ...domain.errors import ModelLoadError
from ..inference.checkpoint import Checkpoint, Precision
from ..inference.vocabulary import Vocabulary
from .batching import GPU_BYTES_PER_FRAME, MOST_GPU_FRAMES, CpuBatching, CudaBatching, GpuBatching, MakeBatching
from .blas import Blas
from .decoders.cuda import CudaDecoder
from .decoders.host import HostDecoder
from .decoders.lockstep import LockstepDecoder
from .decoders.network import HostNetwork
from .decoders.transducer import Transducer, TransducerDecoder, require_usable_transducer
from .description import describe
from .encoder import Encoder
from .engine import MlxEngine
from .features import LogMel
from .precision import round_weights
from .requirements import UnsupportedModelError, require_finite, require_usable_features
from .transcription import CtcTranscription, Transcription
from .transducing import TransducerTranscription

_CACHE_BYTES = 128 << 20
_CUDA_CACHE_BYTES = 4 << 30
"""CUDA takes long to give memory, and a large batch needs gigabytes of it for a moment."""
_WEIGHTS_BYTES = 2 << 30
_SWITCH_S = 0.001
"""Whenever the device has done a step, this thread needs Python's lock again, and a busy event loop keeps it for as long
as this. By default that is 5 ms, and a batch takes many steps of less."""
_CONFIG_ERRORS = (
    DaciteError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    NotImplementedError,
)
"""What building a model raises where the configuration is wrong: dacite checks types, parakeet-mlx and MLX few values,
such as a number of heads that is 0."""
_WEIGHTS_ERRORS = (RuntimeError, ValueError)
"""What MLX raises for a damaged file, and for weights of another model."""


def load_engine(
    checkpoint: Checkpoint,
    *,
    precision: Precision,
    blas: Blas | None,
    cache_limit_bytes: int | None,
    batching: MakeBatching | None = None,
) -> MlxEngine:
    """Load the weights, all of them, now, in the thread that will own the engine.

    Args:
        checkpoint: What to load.
        precision: Of the weights.
        blas: What MLX will use on a CPU.
        cache_limit_bytes: What MLX may keep of freed buffers; by default as much as suits the device.
        batching: How to form batches; by default as suits the device.

    Raises:
        ModelLoadError: The configuration or the weights are not those of a Parakeet model that we support.
    """
    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    model = _build(checkpoint)
    try:
        require_usable_features(model)
        features = LogMel(model.preprocessor_config)
        encoder = Encoder(model.encoder, on_gpu=on_gpu)
        dtype = round_weights(model, precision, on_gpu=on_gpu)
        # Lazy weights would be read at the first request, maybe by another thread.
        mx.eval(model.parameters())  # pyright: ignore[reportUnknownMemberType] - its stub has no types
        transcription = _transcription(model, on_gpu=on_gpu)
    except UnsupportedModelError as error:
        raise _unusable(checkpoint, error) from error
    if cache_limit_bytes is None:
        cache_limit_bytes = _CUDA_CACHE_BYTES if mx.cuda.is_available() else _CACHE_BYTES
    mx.set_cache_limit(cache_limit_bytes)
    if on_gpu:
        sys.setswitchinterval(_SWITCH_S)
    make_batching = batching or _batching(on_gpu=on_gpu)
    return MlxEngine(
        describe(model, checkpoint, precision, dtype, blas, on_gpu=on_gpu, searches=transcription.can_search),
        make_batching(features, encoder, dtype),
        transcription,
        frame_s=model.time_ratio,
    )


def _batching(*, on_gpu: bool) -> MakeBatching:
    if not on_gpu:
        return CpuBatching
    if not mx.cuda.is_available():
        return GpuBatching
    # All shapes are run at the start: the largest must fit beside the weights and what MLX keeps.
    memory = mx.device_info().get("total_memory", math.inf)
    frames = (float(memory) - _WEIGHTS_BYTES) / 2 / GPU_BYTES_PER_FRAME
    return partial(CudaBatching, most_frames=int(max(min(frames, MOST_GPU_FRAMES), 0)))


def _build(checkpoint: Checkpoint) -> BaseParakeet:
    try:
        model = from_config(checkpoint.config)
    except _CONFIG_ERRORS as error:
        raise _unusable(checkpoint, error) from error
    try:
        model.load_weights(str(checkpoint.weights))
    except _WEIGHTS_ERRORS as error:
        raise _unusable(checkpoint, error) from error
    return model


def _unusable(checkpoint: Checkpoint, error: Exception) -> ModelLoadError:
    # Some assertions of parakeet-mlx have no message, and MLX lists every parameter in a line of its own.
    reason = str(error).partition("\n")[0] or "a value in config.json is out of range"
    return ModelLoadError(f"{checkpoint.model_id!r} is not a Parakeet model that can be used: {reason}")


def _transcription(model: BaseParakeet, *, on_gpu: bool) -> Transcription:
    vocabulary = Vocabulary(model.vocabulary, frame_s=model.time_ratio)
    if isinstance(model, ParakeetTDT | ParakeetRNNT):
        require_usable_transducer(model)
        network = HostNetwork(model)
        return TransducerTranscription(model, network, _greedy_decoder(model, network, on_gpu=on_gpu), vocabulary)
    if isinstance(model, ParakeetCTC):
        require_finite("decoder", model.decoder)
        if model.decoder.decoder_layers[0].weight.shape[0] != len(model.vocabulary) + 1:
            raise UnsupportedModelError(f"a vocabulary of {len(model.vocabulary)} and a decoder of another size")
        return CtcTranscription(model, vocabulary)
    raise UnsupportedModelError(f"decoder of {type(model).__name__}")


def _greedy_decoder(model: Transducer, network: HostNetwork, *, on_gpu: bool) -> TransducerDecoder:
    if not on_gpu:
        return HostDecoder(model, network)
    return CudaDecoder(model) if mx.cuda.is_available() else LockstepDecoder(model)
