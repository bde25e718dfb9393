"""A Parakeet model in MLX: features, encoder, decoder. Synchronous; every call comes from the thread that made it.

Importing this module imports MLX, which binds its BLAS then and there: see `blas`.
"""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeGuard, cast

import mlx.core as mx
import numpy as np
from dacite import DaciteError
from mlx.nn.layers.base import Module  # pyright: ignore[reportMissingTypeStubs]
from mlx.nn.layers.linear import Linear  # pyright: ignore[reportMissingTypeStubs]
from mlx.nn.layers.quantized import quantize  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from parakeet_mlx import ParakeetCTC, ParakeetRNNT, ParakeetTDT
from parakeet_mlx.parakeet import BaseParakeet
from parakeet_mlx.utils import from_config

from ...application.ports.speech_model import GREEDY, Decoding, ModelDescription
from ...domain.audio import NO_SAMPLES, Samples
from ...domain.errors import InferenceError, ModelLoadError
from ...domain.transcript import Token
from .arrays import integers
from .blas import Blas
from .checkpoint import Checkpoint, Precision
from .decoders.boosting import Boosters, forms_of
from .decoders.cuda import CudaDecoder
from .decoders.host import HostDecoder
from .decoders.lockstep import LockstepDecoder
from .decoders.network import HostNetwork
from .decoders.search import SearchDecoder
from .decoders.transducer import DecoderState, Emission, Stretch, Transducer, TransducerDecoder, start_of
from .encoder import Encoder
from .features import LogMel

_CONTROL = re.compile(r"<.*>")
_CPU_FRAMES = 1600
"""Frames of features (10 ms) that fill a CPU."""
_MANY = 1 << 16
_BITS = {"int8": 8, "int4": 4}
_GROUP = 64
"""Weights that share a scale."""
_BEAM_OF_PHRASES = 4
"""Readings that are kept where phrases are favoured and no number is given: fewer write names that nobody said, more
find hardly any others."""
_WEIGHT_OF_CHARACTER = 5 / 3
"""What each character of a phrase is worth, beside the logarithm of a token's probability. With less, names are not
found; with a fifth more, one in fifty is heard that nobody said."""
_NO_STATE = "CTC models are not read live: only transducers carry their state from step to step."


@dataclass(frozen=True, slots=True)
class Window:
    """Audio to be encoded in one piece, and which of its encoder frames to decode.

    Attributes:
        samples: At the model's rate.
        begin: First frame to decode.
        settle: Frames up to here are decoded for good, by default all of them.
        end: Frames from `settle` up to here are decoded as a draft; by default there are none.
        state: Where decoding stands at `begin`; by default at the beginning.
        first_frame: What the window's first frame is in its stream, for the tokens' times.
        decoding: How to choose among tokens. A search knows no drafts, and begins at the beginning.

    Raises:
        ValueError: A search is to leave a draft, or to go on from a state.
    """

    samples: Samples
    begin: int = 0
    settle: int | None = None
    end: int = 0
    state: DecoderState | None = None
    first_frame: int = 0
    decoding: Decoding = GREEDY

    def __post_init__(self) -> None:
        """Refuse what a search cannot do."""
        if self.searched and (self.end or self.state is not None):
            raise ValueError("a search has no draft, and no state to go on from")

    @property
    def searched(self) -> bool:
        """Whether more than the likeliest token is looked at."""
        return self.decoding != GREEDY


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read in a window.

    Attributes:
        finalized: Tokens decoded for good.
        draft: Tokens behind them.
        settled: Frame of the window up to which tokens are final.
        decoded: Frame up to which it was decoded at all.
        state: Where decoding stands at `settled`; ``None`` if the model has none, or searched.
    """

    finalized: tuple[Token, ...]
    draft: tuple[Token, ...]
    settled: int
    decoded: int
    state: DecoderState | None


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The encoder's view of a batch: shape ``(batch, frames, width)``, and how many frames of each item count."""

    frames: mx.array
    counts: list[int]


class Engine:
    """One loaded model; belongs to the thread that made it."""

    def __init__(
        self, checkpoint: Checkpoint, *, precision: Precision, blas: Blas | None, cache_limit_bytes: int
    ) -> None:
        """Load the weights, all of them, now.

        Raises:
            ModelLoadError: The configuration or the weights are not those of a Parakeet model that we can run.
        """
        self._on_gpu = mx.default_device().type == mx.DeviceType.gpu
        try:
            self._model = from_config(checkpoint.config)
            self._model.load_weights(str(checkpoint.weights))
            self._features = LogMel(self._model.preprocessor_config)
            self._encoder = Encoder(self._model.encoder, on_gpu=self._on_gpu)
        except (ValueError, KeyError, TypeError, RuntimeError, AssertionError, DaciteError) as error:
            raise ModelLoadError(
                f"MODEL_ID: {checkpoint.model_id} is no Parakeet model that we can run: {error}"
            ) from error
        self._dtype = _apply(self._model, precision, on_gpu=self._on_gpu)
        # Lazy weights would be read at the first request, maybe by another thread.
        mx.eval(self._model.parameters())  # pyright: ignore[reportUnknownMemberType] - its stub has no types
        mx.set_cache_limit(cache_limit_bytes)
        self.frame_s = self._model.time_ratio
        self._pieces = [piece.replace("▁", " ") for piece in self._model.vocabulary]
        self._is_control = [_CONTROL.fullmatch(piece.strip()) is not None for piece in self._pieces]
        self._start: DecoderState | None = None
        if isinstance(self._model, ParakeetTDT | ParakeetRNNT):
            self._start = start_of(self._model)
            network = HostNetwork(self._model)
            self._decoder = _decoder(self._model, network, on_gpu=self._on_gpu)
            self._search = SearchDecoder(self._model, network)
            self._boosters = Boosters(self._pieces)
        self.description = _describe(self._model, checkpoint, precision, self._dtype, blas, on_gpu=self._on_gpu)

    @property
    def start(self) -> DecoderState:
        """The decoder's state before the first frame.

        Raises:
            InferenceError: The model's decoder has no state to carry.
        """
        if self._start is None:
            raise InferenceError(_NO_STATE)
        return self._start

    def bucket(self, window: Window) -> tuple[int, bool]:
        """Windows that may be read as one batch have the same.

        Returns:
            The length to which a GPU pads them, in frames, and whether they are searched: nobody else waits for that.
        """
        return self._padded(window), window.searched

    def _padded(self, window: Window) -> int:
        count = self._features.count(len(window.samples))
        # Four steps to each doubling: padding is a tenth of the work on average, and shapes stay few.
        step = max(1 << max(count.bit_length() - 3, 0), 32)
        return -(-count // step) * step

    def room(self, window: Window) -> int:
        """See `Reader`: a GPU is not filled by one window; a CPU is, and only short ones gain by company.

        Searches are made one after the other, and the first would wait for the last.
        """
        if window.searched:
            return 1
        return _MANY if self._on_gpu else max(_CPU_FRAMES // self._padded(window), 1)

    def seconds(self, window: Window) -> float:
        """How much audio it is."""
        return len(window.samples) / self.description.sample_rate_hz

    def read(self, windows: Sequence[Window]) -> Generator[None, None, list[Reading | InferenceError]]:
        """Read windows of one bucket as a batch; between two steps of the generator something else may be done.

        Returns:
            For each window what was read, or why it could not be.

        Raises:
            ValueError: A sample is not finite.
            RuntimeError: The device failed.
        """
        encoded = yield from self._encode(windows)
        finite = _finite(encoded)
        yield
        if isinstance(self._model, ParakeetCTC):
            readings = self._read_ctc(self._model, encoded)
        else:
            readings = yield from self._read_transducer(windows, encoded)
        error = InferenceError("The model's encoder gave numbers that are not finite.")
        return [reading if good else error for reading, good in zip(readings, finite, strict=True)]

    def warm_up(self) -> None:
        """Read a second of noise: the first window compiles kernels, which can take seconds."""
        noise = np.random.default_rng(0).normal(0, 0.1, self.description.sample_rate_hz).astype(np.float32)
        for _ in self.read([Window(noise)]):
            pass

    def _encode(self, windows: Sequence[Window]) -> Generator[None, None, _Encoded]:
        if self._on_gpu:
            return self._encode_on_gpu(windows)
        lengths = [self._features.count(len(window.samples)) for window in windows]
        features = self._features([window.samples for window in windows]).astype(self._dtype)
        frames = self._encoder.subsample(features, mx.array(lengths) if min(lengths) < max(lengths) else None)
        for layer in self._encoder.layers:
            mx.eval(frames.x)  # pyright: ignore[reportUnknownMemberType] - its stub has no types
            yield
            frames = layer(frames)
        return _Encoded(frames.x, [self._encoder.count(length) for length in lengths])

    def _encode_on_gpu(self, windows: Sequence[Window]) -> _Encoded:
        """Encode a batch whose shape is one of few: a GPU's code is prepared for each shape, and kept."""
        samples = [window.samples for window in windows]
        nobody = [NO_SAMPLES] * ((1 << (len(samples) - 1).bit_length()) - len(samples))
        features = self._features([*samples, *nobody], frames=max(map(self._padded, windows))).astype(self._dtype)
        frames, counts = self._encoder(features, [self._features.count(len(one)) for one in (*samples, *nobody)])
        return _Encoded(frames[: len(samples)], counts[: len(samples)])

    def _read_transducer(self, windows: Sequence[Window], encoded: _Encoded) -> Generator[None, None, list[Reading]]:
        """The likeliest tokens where nothing else is asked for; then one search after the other."""
        plain = [row for row, window in enumerate(windows) if not window.searched]
        if len(plain) == len(windows):
            return (yield from self._decode(windows, encoded))
        readings: dict[int, Reading] = {}
        if plain:
            part = _Encoded(encoded.frames[mx.array(plain)], [encoded.counts[row] for row in plain])
            decoded = yield from self._decode([windows[row] for row in plain], part)
            readings.update(zip(plain, decoded, strict=True))
        for row, window in enumerate(windows):
            if window.searched:
                readings[row] = yield from self._read_by_search(window, encoded.frames[row], encoded.counts[row])
        return [readings[row] for row in range(len(windows))]

    def _read_by_search(self, window: Window, frames: mx.array, count: int) -> Generator[None, None, Reading]:
        settle = count if window.settle is None else min(window.settle, count)
        beam_size, booster = window.decoding.beam_size, None
        if forms := forms_of(window.decoding.phrases):
            weight = _WEIGHT_OF_CHARACTER * self._search.token_share
            booster = self._boosters.of({form: weight * len(form) for form in forms})
            beam_size = beam_size if beam_size > 1 else _BEAM_OF_PHRASES
        emissions = yield from self._search.search(
            frames, window.begin, settle, beam_size=beam_size, booster=booster, linger=self._search.longest_move
        )
        return Reading(self._tokens(emissions, window.first_frame), (), settled=settle, decoded=settle, state=None)

    def _decode(self, windows: Sequence[Window], encoded: _Encoded) -> Generator[None, None, list[Reading]]:
        """Decode for good, and then, where a draft is wanted, from there on."""
        stretches: list[Stretch] = []
        ends: list[int] = []
        for window, count in zip(windows, encoded.counts, strict=True):
            settle = count if window.settle is None else min(window.settle, count)
            stretches.append(Stretch(window.begin, settle, window.state or self.start))
            ends.append(max(settle, min(window.end, count)))
        settled = self._decoder.decode(encoded.frames, stretches)
        yield
        rows = [row for row, (stretch, end) in enumerate(zip(stretches, ends, strict=True)) if end > stretch.end]
        drafts: dict[int, tuple[Emission, ...]] = {}
        if rows:
            further = [Stretch(stretches[row].end, ends[row], settled[row].state) for row in rows]
            frames = encoded.frames if len(rows) == len(windows) else encoded.frames[mx.array(rows)]
            drafts = {
                row: draft.emissions for row, draft in zip(rows, self._decoder.decode(frames, further), strict=True)
            }
        return [
            Reading(
                finalized=self._tokens(settled[row].emissions, window.first_frame),
                draft=self._tokens(drafts.get(row, ()), window.first_frame),
                settled=stretches[row].end,
                decoded=ends[row],
                state=settled[row].state,
            )
            for row, window in enumerate(windows)
        ]

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
            if not self._is_control[emission.token]
        )

    def _read_ctc(self, model: ParakeetCTC, encoded: _Encoded) -> list[Reading]:
        """CTC models go through parakeet-mlx's own decoder."""
        return [
            Reading(
                finalized=tuple(
                    Token(token.id, self._pieces[token.id], token.start, token.end, token.confidence)
                    for token in aligned
                    if not self._is_control[token.id]
                ),
                draft=(),
                settled=count,
                decoded=count,
                state=None,
            )
            for aligned, count in zip(
                model.decode(encoded.frames, mx.array(encoded.counts)), encoded.counts, strict=True
            )
        ]


def _decoder(model: Transducer, network: HostNetwork, *, on_gpu: bool) -> TransducerDecoder:
    if not on_gpu:
        return HostDecoder(model, network)
    return CudaDecoder(model) if mx.cuda.is_available() else LockstepDecoder(model)


def _finite(encoded: _Encoded) -> Sequence[bool]:
    """Whether every number of an item is finite; padding counts, too, for it could not be otherwise."""
    return [bool(good) for good in integers(mx.all(mx.isfinite(encoded.frames), axis=(1, 2)))]


def _apply(model: BaseParakeet, precision: Precision, *, on_gpu: bool) -> mx.Dtype:
    """Round the weights to `precision` and give the format in which the model computes.

    CPUs compute in float32 all the same: MLX multiplies other matrices there without a BLAS, several times slower.
    """
    if precision != "fp32":
        model.set_dtype(mx.bfloat16)
    dtype = mx.bfloat16 if on_gpu and precision != "fp32" else mx.float32
    model.set_dtype(dtype)
    if precision in _BITS:
        _quantize(model, _BITS[precision], keep=on_gpu)
    return dtype


def _quantize(model: BaseParakeet, bits: int, *, keep: bool) -> None:
    """Round the linear layers of the encoder, nine tenths of a model, to `bits` in groups of 64.

    Args:
        model: Changed in place.
        bits: 8 or 4.
        keep: Keep the weights so; else they are rounded, and stored and multiplied as before.
    """
    if keep:
        quantize(model.encoder, _GROUP, bits, class_predicate=lambda _, module: _is_rounded(module))
        return
    for module in cast("list[Module]", model.encoder.modules()):  # type: ignore[no-untyped-call]
        if _is_rounded(module):
            rounded = mx.quantize(module.weight, _GROUP, bits)
            module.weight = mx.dequantize(*rounded, group_size=_GROUP, bits=bits)


def _is_rounded(module: Module) -> TypeGuard[Linear]:
    return isinstance(module, Linear) and module.weight.shape[-1] % _GROUP == 0


def _describe(
    model: BaseParakeet,
    checkpoint: Checkpoint,
    precision: Precision,
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
        searches=isinstance(model, ParakeetTDT | ParakeetRNNT),
        note=own.get("note"),
    )


def _languages(vocabulary: Sequence[str]) -> tuple[str, ...]:
    """Multilingual checkpoints name their languages by control tokens such as ``<|de|>``; the others are English."""
    named = {match[1] for piece in vocabulary if (match := re.fullmatch(r"<\|([a-z]{2})\|>", piece))}
    return tuple(sorted(named)) or ("en",)
