from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import mlx.core as mx
import numpy as np
import pytest
from parakeet_mlx import ParakeetTDT
from parakeet_mlx.utils import from_config

from parakeet_service.adapters.parakeet_mlx.checkpoint import locate
from parakeet_service.adapters.parakeet_mlx.features import LogMel
from parakeet_service.adapters.parakeet_mlx.transducer import Emission, GreedyDecoder
from parakeet_service.domain.audio import Samples

RATE_HZ = 16000


@pytest.fixture(scope="module")
def model() -> ParakeetTDT:
    checkpoint = locate("embedded", offline=True)
    model = cast("ParakeetTDT", from_config(checkpoint.config))
    model.load_weights(str(checkpoint.weights))
    model.set_dtype(mx.float32)
    return model


@pytest.fixture(scope="module")
def encoded(model: ParakeetTDT, speech: Samples) -> list[mx.array]:
    """Encoder output of thirty stretches of speech that begin and end anywhere."""
    return list(_encoded(model, speech))


def _encoded(model: ParakeetTDT, speech: Samples) -> Iterator[mx.array]:
    log_mel = LogMel(model.preprocessor_config)
    random = np.random.default_rng(1)
    for _ in range(30):
        length = int(random.integers(RATE_HZ // 2, 6 * RATE_HZ))
        start = int(random.integers(0, len(speech) - length))
        frames, _ = model.encoder(log_mel(speech[start : start + length])[None])
        yield frames


def _upstream(model: ParakeetTDT, frames: mx.array) -> list[tuple[int, int, int]]:
    (tokens,), _ = model.decode(frames)
    ratio = model.time_ratio
    return [(token.id, round(token.start / ratio), round(token.duration / ratio)) for token in tokens]


def _plain(emissions: list[Emission]) -> list[tuple[int, int, int]]:
    return [(emission.token, emission.frame, emission.frames) for emission in emissions]


def test_gives_the_tokens_and_times_of_parakeet_mlx(model: ParakeetTDT, encoded: list[mx.array]) -> None:
    decoder = GreedyDecoder(model)
    spoken = 0
    for frames in encoded:
        ((emissions, _),) = decoder.decode(frames, [frames.shape[1]], [decoder.start])
        assert _plain(emissions) == _upstream(model, frames)
        assert all(0 < emission.probability <= 1 for emission in emissions)
        spoken += len(emissions)
    assert spoken > 200


def test_gives_each_item_of_a_batch_what_it_gives_alone(model: ParakeetTDT, encoded: list[mx.array]) -> None:
    decoder = GreedyDecoder(model)
    longest = max(frames.shape[1] for frames in encoded)
    # What pads an item must not count, whatever it is.
    padded = [
        mx.pad(frames, [(0, 0), (0, longest - frames.shape[1]), (0, 0)], constant_values=3.0) for frames in encoded
    ]
    batch = decoder.decode(
        mx.concatenate(padded), [frames.shape[1] for frames in encoded], [decoder.start] * len(encoded)
    )
    for (emissions, _), frames in zip(batch, encoded, strict=True):
        assert _plain(emissions) == _upstream(model, frames)


def test_goes_on_where_it_stopped(model: ParakeetTDT, encoded: list[mx.array]) -> None:
    decoder = GreedyDecoder(model)
    random = np.random.default_rng(2)
    for frames in encoded:
        count = frames.shape[1]
        state, heard = decoder.start, list[tuple[int, int, int]]()
        cuts = [0, *sorted(random.integers(0, count + 1, size=3).tolist()), count]
        for begin, end in pairwise(cuts):
            ((emissions, state),) = decoder.decode(frames[:, begin:end], [end - begin], [state])
            heard += [(token, frame + begin, length) for token, frame, length in _plain(emissions)]
        assert heard == _upstream(model, frames)


def test_decodes_nothing_from_no_frames(model: ParakeetTDT, encoded: list[mx.array]) -> None:
    decoder = GreedyDecoder(model)
    ((emissions, state),) = decoder.decode(encoded[0][:, :0], [0], [decoder.start])
    assert emissions == []
    assert state == decoder.start
