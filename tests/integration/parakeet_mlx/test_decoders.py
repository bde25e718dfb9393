from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal, TypeAlias, cast

import mlx.core as mx
import numpy as np
import pytest
from parakeet_mlx import ParakeetRNNT, ParakeetTDT

from parakeet_service.adapters.inference.decoding import Decoded, DecodeRange
from parakeet_service.adapters.parakeet_mlx.decoders.cuda import CudaDecoder
from parakeet_service.adapters.parakeet_mlx.decoders.host import HostDecoder
from parakeet_service.adapters.parakeet_mlx.decoders.lockstep import LockstepDecoder
from parakeet_service.adapters.parakeet_mlx.decoders.transducer import Transducer, TransducerDecoder, start_of
from parakeet_service.adapters.parakeet_mlx.features import LogMel
from parakeet_service.domain.audio import Samples

from .transducers import clip_of, random_transducer

Plain: TypeAlias = list[tuple[int, int, int]]


@pytest.fixture(scope="module")
def encoded(model: ParakeetTDT, speech: Samples) -> list[mx.array]:
    """Encoder output of thirty spans of speech that begin and end anywhere."""
    return list(_encoded(model, speech))


@pytest.fixture(
    params=[
        HostDecoder,
        LockstepDecoder,
        pytest.param(CudaDecoder, marks=pytest.mark.skipif(not mx.cuda.is_available(), reason="needs an NVIDIA GPU")),
    ]
)
def make(request: pytest.FixtureRequest) -> Callable[[Transducer], TransducerDecoder]:
    return cast("Callable[[Transducer], TransducerDecoder]", request.param)


@pytest.fixture
def decoder(make: Callable[[Transducer], TransducerDecoder], model: ParakeetTDT) -> TransducerDecoder:
    return make(model)


def _encoded(model: ParakeetTDT, speech: Samples) -> Iterator[mx.array]:
    log_mel = LogMel(model.preprocessor_config)
    random = np.random.default_rng(1)
    for _ in range(30):
        frames, _ = model.encoder(log_mel([clip_of(random, speech, shortest_s=0.5, longest_s=6)]))
        yield frames


def _upstream(model: Transducer, frames: mx.array) -> Plain:
    (tokens,), _ = model.decode(frames)
    ratio = model.time_ratio
    return [(token.id, round(token.start / ratio), round(token.duration / ratio)) for token in tokens]


def _plain(decoded: Decoded) -> Plain:
    return [(emission.token, emission.frame, emission.frames) for emission in decoded.emissions]


def _whole(frames: mx.array, model: Transducer) -> DecodeRange:
    return DecodeRange(0, frames.shape[1], start_of(model))


def test_gives_the_tokens_and_times_of_parakeet_mlx(
    model: ParakeetTDT, decoder: TransducerDecoder, encoded: Sequence[mx.array]
) -> None:
    spoken = 0
    for frames in encoded:
        (decoded,) = decoder.decode(frames, [_whole(frames, model)])
        assert _plain(decoded) == _upstream(model, frames)
        assert all(0 < emission.probability <= 1 for emission in decoded.emissions)
        spoken += len(decoded.emissions)
    assert spoken > 200


def test_gives_each_item_of_a_batch_what_it_gives_alone(
    model: ParakeetTDT, decoder: TransducerDecoder, encoded: Sequence[mx.array]
) -> None:
    longest = max(frames.shape[1] for frames in encoded)
    # What pads an item must not count, whatever it is.
    padded = [
        mx.pad(frames, [(0, 0), (0, longest - frames.shape[1]), (0, 0)], constant_values=3.0) for frames in encoded
    ]
    batch = decoder.decode(mx.concatenate(padded), [_whole(frames, model) for frames in encoded])
    for decoded, frames in zip(batch, encoded, strict=True):
        assert _plain(decoded) == _upstream(model, frames)


def test_goes_on_where_it_stopped(model: ParakeetTDT, decoder: TransducerDecoder, encoded: Sequence[mx.array]) -> None:
    random = np.random.default_rng(2)
    for frames in encoded:
        count = frames.shape[1]
        state, heard = start_of(model), list[tuple[int, int, int]]()
        cuts = [0, *sorted(random.integers(0, count + 1, size=3).tolist()), count]
        for begin, end in pairwise(cuts):
            (decoded,) = decoder.decode(frames, [DecodeRange(begin, end, state)])
            heard += _plain(decoded)
            state = decoded.state
        assert heard == _upstream(model, frames)


def test_may_begin_anywhere_for_each_item(
    model: ParakeetTDT, decoder: TransducerDecoder, encoded: Sequence[mx.array]
) -> None:
    frames = max(encoded, key=lambda frames: frames.shape[1])
    count, start = frames.shape[1], start_of(model)
    spans = [DecodeRange(begin, count - begin, replace(start, skip=begin % 3)) for begin in range(5)]
    batch = decoder.decode(mx.concatenate([frames] * 5), spans)
    for span, decoded in zip(spans, batch, strict=True):
        part = frames[:, span.begin + span.state.skip : span.end]
        shift = span.begin + span.state.skip
        assert _plain(decoded) == [(token, at + shift, lasts) for token, at, lasts in _upstream(model, part)]


def test_decodes_nothing_from_no_frames(
    model: ParakeetTDT, decoder: TransducerDecoder, encoded: Sequence[mx.array]
) -> None:
    start = start_of(model)
    (decoded,) = decoder.decode(encoded[0], [DecodeRange(2, 2, start)])
    assert decoded.emissions == ()
    assert (decoded.state.skip, decoded.state.last, decoded.state.repeats) == (0, start.last, 0)
    assert not decoded.state.hidden.any()


def test_of_the_devices_agree_on_states_and_probabilities(
    model: ParakeetTDT, decoder: TransducerDecoder, encoded: Sequence[mx.array]
) -> None:
    reference = LockstepDecoder(model)
    for frames in encoded[:10]:
        span = _whole(frames, model)
        (ours,), (other,) = decoder.decode(frames, [span]), reference.decode(frames, [span])
        np.testing.assert_allclose(
            [emission.probability for emission in ours.emissions],
            [emission.probability for emission in other.emissions],
            atol=1e-5,
        )
        np.testing.assert_allclose(ours.state.hidden, other.state.hidden, atol=1e-5)
        np.testing.assert_allclose(ours.state.cell, other.state.cell, atol=1e-5)
        assert (ours.state.skip, ours.state.last) == (other.state.skip, other.state.last)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", ["tdt", "rnnt"])
def test_covers_the_family(
    make: Callable[[Transducer], TransducerDecoder], kind: Literal["tdt", "rnnt"], layers: int, activation: str
) -> None:
    model = random_transducer(kind, layers=layers, activation=activation)
    assert isinstance(model, ParakeetTDT if kind == "tdt" else ParakeetRNNT)
    frames = mx.array(np.random.default_rng(6).normal(0, 3, (4, 60, 256)).astype(np.float32))
    batch = make(model).decode(frames, [DecodeRange(0, 60, start_of(model))] * 4)
    for row, decoded in enumerate(batch):
        assert _plain(decoded) == _upstream(model, frames[row : row + 1])
    assert sum(len(decoded.emissions) for decoded in batch) > 40
