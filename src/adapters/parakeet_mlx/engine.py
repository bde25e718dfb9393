"""A Parakeet model in MLX: features, encoder, decoder. Synchronous; every call comes from the thread that made it.

Importing this module imports MLX, which binds its BLAS then and there: see `blas`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from dacite import DaciteError
from parakeet_mlx import ParakeetCTC, ParakeetRNNT, ParakeetTDT
from parakeet_mlx.parakeet import BaseParakeet
from parakeet_mlx.utils import from_config

from ...application.ports.speech_model import ModelDescription
from ...domain.audio import Samples, is_silence
from ...domain.errors import InferenceError, ModelLoadError
from ...domain.transcript import Token
from .blas import Blas
from .checkpoint import Checkpoint
from .encoder import Encoder, rational_sigmoid
from .features import LogMel
from .transducer import DecoderState, Emission, GreedyDecoder

_CONTROL = re.compile(r"<.*>")
_NO_STATE = "CTC models are not read live: only transducers carry their state from step to step."
_CACHE_LIMIT_BYTES = 256 << 20
"""What MLX may keep of freed buffers: windows vary in length, and without a limit each length keeps its own."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The encoder's view of one window, shape ``(1, frames, width)``."""

    frames: mx.array

    @property
    def count(self) -> int:
        """How many frames there are."""
        return self.frames.shape[1]


class Engine:
    """One loaded model; belongs to the thread that made it."""

    def __init__(self, checkpoint: Checkpoint, *, precision: str, blas: Blas | None) -> None:
        """Load the weights, all of them, now.

        Raises:
            ModelLoadError: The configuration or the weights are not those of a Parakeet model that we can run.
        """
        self._on_gpu = mx.default_device().type == mx.DeviceType.gpu
        try:
            self._model = from_config(checkpoint.config)
            self._model.load_weights(str(checkpoint.weights))
            self._features = LogMel(self._model.preprocessor_config)
            self._encoder = Encoder(self._model.encoder, sigmoid=mx.sigmoid if self._on_gpu else rational_sigmoid)
        except (ValueError, KeyError, TypeError, RuntimeError, AssertionError, DaciteError) as error:
            raise ModelLoadError(
                f"MODEL_ID: {checkpoint.model_id} is no Parakeet model that we can run: {error}"
            ) from error
        self._dtype = _apply(self._model, precision, on_gpu=self._on_gpu)
        # Lazy weights would be read at the first request, maybe by another thread.
        mx.eval(self._model.parameters())  # pyright: ignore[reportUnknownMemberType] - its stub has no types
        mx.set_cache_limit(_CACHE_LIMIT_BYTES)
        self.frame_s = self._model.time_ratio
        self._pieces = [piece.replace("▁", " ") for piece in self._model.vocabulary]
        self._decoder = GreedyDecoder(self._model) if isinstance(self._model, ParakeetTDT | ParakeetRNNT) else None
        self.description = _describe(self._model, checkpoint, precision, self._dtype, blas, on_gpu=self._on_gpu)

    def transcribe(self, samples: Samples) -> tuple[Token, ...]:
        """Read one window from its beginning to its end; silence has no tokens, though models imagine some."""
        if is_silence(samples, self.description.sample_rate_hz):
            return ()
        encoded = self.encode(samples)
        if isinstance(self._model, ParakeetCTC):
            return self._transcribe_ctc(self._model, encoded)
        tokens, _ = self.decode(encoded, 0, encoded.count, self.start, first_frame=0)
        return tokens

    @property
    def start(self) -> DecoderState:
        """The decoder's state before the first frame.

        Raises:
            InferenceError: The model's decoder has no state to carry.
        """
        if self._decoder is None:
            raise InferenceError(_NO_STATE)
        return self._decoder.start

    def encode(self, samples: Samples) -> Encoded:
        """Make features and run the encoder.

        Raises:
            InferenceError: A number in the result is not finite.
        """
        features = self._features(samples).astype(self._dtype)[None]
        frames, _ = self._encoder(features, [features.shape[1]])
        if not mx.all(mx.isfinite(frames)).item():
            raise InferenceError("The model's encoder gave numbers that are not finite.")
        return Encoded(frames)

    def decode(
        self, encoded: Encoded, begin: int, end: int, state: DecoderState, *, first_frame: int
    ) -> tuple[tuple[Token, ...], DecoderState]:
        """Decode frames ``[begin, end)`` of a window whose first frame is the stream's `first_frame`."""
        if self._decoder is None:
            raise InferenceError(_NO_STATE)
        ((emissions, state),) = self._decoder.decode(encoded.frames[:, begin:end], [end - begin], [state])
        return self._tokens(emissions, first_frame + begin), state

    def _tokens(self, emissions: Sequence[Emission], first_frame: int) -> tuple[Token, ...]:
        return tuple(
            Token(
                id=emission.token,
                text=self._pieces[emission.token],
                start_s=(first_frame + emission.frame) * self.frame_s,
                end_s=(first_frame + emission.frame + emission.frames) * self.frame_s,
                confidence=emission.probability,
            )
            for emission in emissions
            if not _CONTROL.fullmatch(self._pieces[emission.token].strip())
        )

    def _transcribe_ctc(self, model: ParakeetCTC, encoded: Encoded) -> tuple[Token, ...]:
        """CTC models go through parakeet-mlx's own decoder."""
        (aligned,) = model.decode(encoded.frames, mx.array([encoded.count]))
        return tuple(
            Token(token.id, self._pieces[token.id], token.start, token.end, token.confidence)
            for token in aligned
            if not _CONTROL.fullmatch(self._pieces[token.id].strip())
        )

    def warm_up(self) -> None:
        """Read a second of noise: the first window compiles kernels, which can take seconds."""
        noise = np.random.default_rng(0).normal(0, 0.1, self.description.sample_rate_hz).astype(np.float32)
        self.transcribe(noise)


def _apply(model: BaseParakeet, precision: str, *, on_gpu: bool) -> mx.Dtype:
    """Round the weights to `precision` and give the format in which the model computes.

    CPUs compute in float32 all the same: MLX multiplies bf16 matrices there without a BLAS, several times slower.
    """
    if precision == "bf16":
        model.set_dtype(mx.bfloat16)
        if on_gpu:
            return mx.bfloat16
    model.set_dtype(mx.float32)
    return mx.float32


def _describe(
    model: BaseParakeet,
    checkpoint: Checkpoint,
    precision: str,
    dtype: mx.Dtype,
    blas: Blas | None,
    *,
    on_gpu: bool,
) -> ModelDescription:
    own = checkpoint.config.get("parakeet_service", {})
    position_limit_s = model.encoder_config.pos_emb_max_len * model.time_ratio
    backend = "Metal" if mx.metal.is_available() else "CUDA"
    return ModelDescription(
        id=checkpoint.model_id,
        architecture=type(model).__name__.removeprefix("Parakeet").lower(),
        languages=tuple(own.get("languages", _languages(model.vocabulary))),
        precision=precision,
        compute="bfloat16" if dtype == mx.bfloat16 else "float32",
        device=f"gpu ({backend})" if on_gpu else "cpu",
        blas=blas.name if blas is not None and not on_gpu else None,
        sample_rate_hz=model.preprocessor_config.sample_rate,
        max_window_s=float(own.get("max_window_s", position_limit_s)),
        note=own.get("note"),
    )


def _languages(vocabulary: Sequence[str]) -> tuple[str, ...]:
    """Multilingual checkpoints name their languages by control tokens such as ``<|de|>``; the others are English."""
    named = {match[1] for piece in vocabulary if (match := re.fullmatch(r"<\|([a-z]{2})\|>", piece))}
    return tuple(sorted(named)) or ("en",)
