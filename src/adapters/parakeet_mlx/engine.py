"""A Parakeet model in MLX: features, encoder, decoder. Synchronous; every call comes from the thread that made it.

Importing this module imports MLX, which binds its BLAS then and there: see `blas`.
"""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np
from dacite import DaciteError
from parakeet_mlx import ParakeetCTC, ParakeetRNNT, ParakeetTDT
from parakeet_mlx.utils import from_config

from ...domain.audio import NO_SAMPLES
from ...domain.errors import InferenceError, ModelLoadError
from ...domain.transcript import Token
from ..inference.checkpoint import Checkpoint, Precision
from ..inference.decoding import DecodeRange, DecoderState, Emission
from ..inference.jobs import DecodeResult, EncoderJob
from .arrays import integers
from .blas import Blas
from .decoders.boosting import Boosters, forms_of
from .decoders.cuda import CudaDecoder
from .decoders.host import HostDecoder
from .decoders.lockstep import LockstepDecoder
from .decoders.network import HostNetwork
from .decoders.search import SearchDecoder
from .decoders.transducer import Transducer, TransducerDecoder, start_of
from .description import describe
from .encoder import Encoder
from .features import LogMel
from .precision import round_weights

_CONTROL = re.compile(r"<.*>")
_CPU_FRAMES = 1600
"""Frames of features (10 ms) that fill a CPU."""
_GPU_FRAMES = 1 << 14
"""Frames that fill a GPU: more of them take an H100 longer in proportion, and fewer hardly less long."""
_MOST_GPU_FRAMES = 3 * _GPU_FRAMES
"""Frames read at once on a GPU: more gain nothing, and the first would wait for the last."""
_BEAM_OF_PHRASES = 4
"""Readings that are kept where phrases are favoured and no number is given: fewer write names that nobody said, more
find hardly any others."""
_WEIGHT_OF_CHARACTER = 5 / 3
"""What each character of a phrase is worth, beside the logarithm of a token's probability. With less, names are not
found; with a fifth more, one in fifty is heard that nobody said."""
_NO_STATE = "CTC models are not read live: only transducers carry their state from step to step."


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The encoder's view of a batch: shape ``(batch, frames, width)``, and how many frames of each item count."""

    frames: mx.array
    counts: list[int]


class MlxEngine:
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
        self._dtype = round_weights(self._model, precision, on_gpu=self._on_gpu)
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
        self.description = describe(self._model, checkpoint, precision, self._dtype, blas, on_gpu=self._on_gpu)

    @property
    def reads_live(self) -> bool:
        """Whether the model's decoder has a state to carry."""
        return self._start is not None

    @property
    def start(self) -> DecoderState:
        """The decoder's state before the first frame.

        Raises:
            InferenceError: The model's decoder has no state to carry.
        """
        if self._start is None:
            raise InferenceError(_NO_STATE)
        return self._start

    def bucket(self, job: EncoderJob) -> tuple[int, bool]:
        """Jobs that may be read as one batch have the same.

        Returns:
            The length to which a GPU pads them, in frames, and whether they are searched: nobody else waits for that.
        """
        return self._padded(job), job.searched

    def _padded(self, job: EncoderJob) -> int:
        count = self._features.count(max(len(job.samples), job.full if self._on_gpu else 0))
        # Four steps to each doubling: padding is a tenth of the work on average, and shapes stay few.
        step = max(1 << max(count.bit_length() - 3, 0), 32)
        return -(-count // step) * step

    def room(self, job: EncoderJob, waiting: int) -> int:
        """See `Reader`: a GPU is not filled by one job; a CPU is, and only short ones gain by company.

        Searches are made one after the other, and the first would wait for the last.
        """
        if job.searched:
            return 1
        frames = self._padded(job)
        if not self._on_gpu:
            return max(_CPU_FRAMES // frames, 1)
        room = min(waiting, max(_MOST_GPU_FRAMES // frames, 1))
        # The number is padded to a power of two, which costs nothing until the GPU is full: then only whole ones.
        return room if room * frames <= _GPU_FRAMES else 1 << (room.bit_length() - 1)

    def seconds(self, job: EncoderJob) -> float:
        """How much audio it is."""
        return len(job.samples) / self.description.sample_rate_hz

    def read(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, list[DecodeResult | InferenceError]]:
        """Read jobs of one bucket as a batch; between two steps of the generator something else may be done.

        Returns:
            For each job what was read, or why it could not be.

        Raises:
            RuntimeError: The device failed.
        """
        encoded = yield from self._encode(jobs)
        finite = _finite(encoded)
        yield
        if isinstance(self._model, ParakeetCTC):
            readings = self._read_ctc(self._model, encoded)
        else:
            readings = yield from self._read_transducer(jobs, encoded)
        error = InferenceError("The model's encoder gave numbers that are not finite.")
        return [reading if good else error for reading, good in zip(readings, finite, strict=True)]

    def warm_up(self, batches: Sequence[Sequence[EncoderJob]] = ()) -> None:
        """Read a second of noise, and then `batches`: what is read first compiles kernels, which can take seconds."""
        noise = np.random.default_rng(0).normal(0, 0.1, self.description.sample_rate_hz).astype(np.float32)
        for batch in ([EncoderJob(noise)], *batches):
            for _ in self.read(batch):
                pass

    def shapes(self, job: EncoderJob, *, most: int) -> list[list[EncoderJob]]:
        """Batches like those in which jobs like this one will be read, one of each shape for which a GPU prepares.

        Args:
            job: One of them, with a draft.
            most: How many are read at once, at most.
        """
        if not self._on_gpu:
            return []
        sizes = (1 << doublings for doublings in range(most.bit_length() + 1))
        batches = [[job] * size for size in sizes if size // 2 < most and size // 2 < self.room(job, size)]
        # The last job of an utterance has no draft; to pick those that have one is code that is prepared, too.
        return [*batches, [job, job, replace(job, finalized_until=None, end=0)]] if most > 2 else batches

    def _encode(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, _Encoded]:
        if self._on_gpu:
            return self._encode_on_gpu(jobs)
        lengths = [self._features.count(len(job.samples)) for job in jobs]
        features = self._features([job.samples for job in jobs]).astype(self._dtype)
        frames = self._encoder.subsample(features, mx.array(lengths) if min(lengths) < max(lengths) else None)
        for layer in self._encoder.layers:
            mx.eval(frames.x)  # pyright: ignore[reportUnknownMemberType] - its stub has no types
            yield
            frames = layer(frames)
        return _Encoded(frames.x, [self._encoder.count(length) for length in lengths])

    def _encode_on_gpu(self, jobs: Sequence[EncoderJob]) -> _Encoded:
        """Encode a batch whose shape is one of few: a GPU's code is prepared for each shape, and kept."""
        samples = [job.samples for job in jobs]
        nobody = [NO_SAMPLES] * ((1 << (len(samples) - 1).bit_length()) - len(samples))
        features = self._features([*samples, *nobody], frames=max(map(self._padded, jobs))).astype(self._dtype)
        frames, counts = self._encoder(features, [self._features.count(len(one)) for one in (*samples, *nobody)])
        return _Encoded(frames[: len(samples)], counts[: len(samples)])

    def _read_transducer(
        self, jobs: Sequence[EncoderJob], encoded: _Encoded
    ) -> Generator[None, None, list[DecodeResult]]:
        """Jobs of one bucket are all searched, one after the other, or none of them is."""
        if not jobs[0].searched:
            return (yield from self._decode(jobs, encoded))
        readings: list[DecodeResult] = []
        for row, job in enumerate(jobs):
            readings.append((yield from self._read_by_search(job, encoded.frames[row], encoded.counts[row])))
        return readings

    def _read_by_search(self, job: EncoderJob, frames: mx.array, count: int) -> Generator[None, None, DecodeResult]:
        finalized_until = count if job.finalized_until is None else min(job.finalized_until, count)
        beam_size, booster = job.decoding.beam_size, None
        if forms := forms_of(job.decoding.phrases):
            weight = _WEIGHT_OF_CHARACTER * self._search.token_share
            booster = self._boosters.of({form: weight * len(form) for form in forms})
            beam_size = beam_size if beam_size > 1 else _BEAM_OF_PHRASES
        emissions = yield from self._search.search(
            frames, job.begin, finalized_until, beam_size=beam_size, booster=booster, linger=self._search.longest_move
        )
        return DecodeResult(
            self._tokens(emissions, job), (), finalized_until=finalized_until, decoded_until=finalized_until, state=None
        )

    def _decode(self, jobs: Sequence[EncoderJob], encoded: _Encoded) -> Generator[None, None, list[DecodeResult]]:
        """Decode for good, and then, where a draft is wanted, from there on."""
        ranges: list[DecodeRange] = []
        ends: list[int] = []
        for job, count in zip(jobs, encoded.counts, strict=True):
            finalized_until = count if job.finalized_until is None else min(job.finalized_until, count)
            ranges.append(DecodeRange(job.begin, finalized_until, job.state or self.start))
            ends.append(max(finalized_until, min(job.end, count)))
        finalized = self._decoder.decode(encoded.frames, ranges)
        yield
        rows = [row for row, (span, end) in enumerate(zip(ranges, ends, strict=True)) if end > span.end]
        drafts: dict[int, tuple[Emission, ...]] = {}
        if rows:
            further = [DecodeRange(ranges[row].end, ends[row], finalized[row].state) for row in rows]
            frames = encoded.frames if len(rows) == len(jobs) else encoded.frames[mx.array(rows)]
            drafts = {
                row: draft.emissions for row, draft in zip(rows, self._decoder.decode(frames, further), strict=True)
            }
        return [
            DecodeResult(
                finalized=self._tokens(finalized[row].emissions, job),
                draft=self._tokens(drafts.get(row, ()), job),
                finalized_until=ranges[row].end,
                decoded_until=ends[row],
                state=finalized[row].state,
            )
            for row, job in enumerate(jobs)
        ]

    def _tokens(self, emissions: Sequence[Emission], job: EncoderJob) -> tuple[Token, ...]:
        first_frame, start_s = job.first_frame, job.start_s
        return tuple(
            Token(
                id=emission.token,
                text=self._pieces[emission.token],
                start_s=start_s + (first_frame + emission.frame) * self.frame_s,
                end_s=start_s + (first_frame + emission.frame + emission.frames) * self.frame_s,
                confidence=emission.probability,
            )
            for emission in emissions
            if not self._is_control[emission.token]
        )

    def _read_ctc(self, model: ParakeetCTC, encoded: _Encoded) -> list[DecodeResult]:
        """CTC models go through parakeet-mlx's own decoder."""
        return [
            DecodeResult(
                finalized=tuple(
                    Token(token.id, self._pieces[token.id], token.start, token.end, token.confidence)
                    for token in aligned
                    if not self._is_control[token.id]
                ),
                draft=(),
                finalized_until=count,
                decoded_until=count,
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
