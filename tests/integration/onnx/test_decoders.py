"""Decoders, against those of the MLX engine and of parakeet-mlx."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias, cast

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray
from parakeet_mlx import ParakeetCTC, ParakeetTDT
from parakeet_mlx.parakeet import BaseParakeet

from parakeet_service.adapters.inference.decoding import Decoded, DecodeRange
from parakeet_service.adapters.onnx.ctc import greedy_ctc
from parakeet_service.adapters.onnx.greedy import GreedyDecoder
from parakeet_service.adapters.onnx.loading import Networks, load
from parakeet_service.adapters.onnx.log_mel import LogMel
from parakeet_service.adapters.parakeet_mlx.arrays import floats
from parakeet_service.adapters.parakeet_mlx.decoders.host import HostDecoder
from parakeet_service.adapters.parakeet_mlx.decoders.transducer import Transducer, start_of
from parakeet_service.adapters.parakeet_mlx.encoder import Encoder
from parakeet_service.domain.audio import Samples

from .checkpoints import clip_of, random_model, save, small_config

Floats: TypeAlias = NDArray[np.float32]
Plain: TypeAlias = list[tuple[int, int, int]]
LAYER = "decoder.decoder_layers.0"
CTC = "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE"


def decoder_of(networks: Networks) -> GreedyDecoder:
    assert networks.transducer is not None
    assert networks.architecture.transducer is not None
    return GreedyDecoder(networks.transducer, networks.architecture.transducer, networks.architecture.blank)


def plain(decoded: Decoded) -> Plain:
    return [(emission.token, emission.frame, emission.frames) for emission in decoded.emissions]


def read(networks: Networks, windows: Sequence[Samples]) -> list[Decoded]:
    features, counts = LogMel(networks.architecture.features)(windows)
    encoded, lengths = networks.encoder.encode(features, counts)
    decoder = decoder_of(networks)
    return decoder.decode(encoded, [DecodeRange(0, length, decoder.start) for length in lengths])


def read_by_mlx(model: Transducer, frames: mx.array, length: int) -> Plain:
    (decoded,) = HostDecoder(model).decode(frames, [DecodeRange(0, length, start_of(model))])
    return [(emission.token, emission.frame, emission.frames) for emission in decoded.emissions]


@pytest.fixture(scope="module")
def windows(speech: Samples) -> list[Samples]:
    random = np.random.default_rng(1)
    return [clip_of(random, speech, shortest_s=0.5, longest_s=6) for _ in range(24)]


def test_reads_token_for_token_what_the_mlx_engine_reads(
    model: ParakeetTDT, float32: Networks, windows: list[Samples]
) -> None:
    log_mel, encoder = LogMel(float32.architecture.features), Encoder(model.encoder, on_gpu=False)
    tokens = 0
    for window in windows:
        features, counts = log_mel([window])
        frames, (length,) = encoder(mx.array(features), counts.tolist())
        (decoded,) = read(float32, [window])
        assert plain(decoded) == read_by_mlx(model, frames, length)
        tokens += len(decoded.emissions)
    assert tokens > 200


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("seed", range(3))
def test_reads_each_window_of_a_batch_as_it_does_alone(
    request: pytest.FixtureRequest, windows: list[Samples], precision: str, seed: int
) -> None:
    networks: Networks = request.getfixturevalue(precision)
    picked: list[int] = np.random.default_rng(seed).permutation(len(windows))[:8].tolist()
    chosen = [windows[i] for i in picked]
    for together, window in zip(read(networks, chosen), chosen, strict=True):
        (alone,) = read(networks, [window])
        assert plain(together) == plain(alone)
        np.testing.assert_allclose(
            [emission.probability for emission in together.emissions],
            [emission.probability for emission in alone.emissions],
            atol=1e-4,
        )


def test_goes_on_where_it_stopped(float32: Networks, windows: list[Samples]) -> None:
    decoder, random = decoder_of(float32), np.random.default_rng(2)
    features, counts = LogMel(float32.architecture.features)(windows)
    encoded, lengths = float32.encoder.encode(features, counts)
    for row, length in enumerate(lengths):
        item, state, heard = encoded[row : row + 1], decoder.start, Plain()
        cuts = [0, *sorted(random.integers(0, length + 1, size=3).tolist()), length]
        for begin, end in pairwise(cuts):
            (decoded,) = decoder.decode(item, [DecodeRange(begin, end, state)])
            heard += plain(decoded)
            state = decoded.state
        (whole,) = decoder.decode(item, [DecodeRange(0, length, decoder.start)])
        assert heard == plain(whole)
        np.testing.assert_array_equal(state.hidden, whole.state.hidden)


def test_leaves_the_state_of_the_mlx_engine(model: ParakeetTDT, float32: Networks, windows: list[Samples]) -> None:
    log_mel, encoder = LogMel(float32.architecture.features), Encoder(model.encoder, on_gpu=False)
    features, counts = log_mel(windows[:4])
    frames, lengths = encoder(mx.array(features), counts.tolist())
    ranges = [DecodeRange(0, length, start_of(model)) for length in lengths]
    for ours, theirs in zip(read(float32, windows[:4]), HostDecoder(model).decode(frames, ranges), strict=True):
        np.testing.assert_allclose(ours.state.hidden, theirs.state.hidden, atol=1e-3)
        np.testing.assert_allclose(ours.state.cell, theirs.state.cell, atol=1e-3)
        assert (ours.state.skip, ours.state.last, ours.state.repeats) == (
            theirs.state.skip,
            theirs.state.last,
            theirs.state.repeats,
        )


def test_decodes_nothing_from_no_frames(float32: Networks) -> None:
    decoder = decoder_of(float32)
    (decoded,) = decoder.decode(np.zeros((1, 5, 256), np.float32), [DecodeRange(2, 2, decoder.start)])
    assert decoded.emissions == ()
    assert (decoded.state.skip, decoded.state.last, decoded.state.repeats) == (0, decoder.start.last, 0)


def transducer_config(*, kind: str, layers: int, activation: str) -> dict[str, Any]:
    config: dict[str, Any] = small_config(n_layers=1)
    config["decoder"]["prednet"] = {"pred_hidden": 48, "pred_rnn_layers": layers}
    config["joint"]["jointnet"] |= {"pred_hidden": 48, "joint_hidden": 72, "activation": activation}
    if kind == "rnnt":
        config["model_defaults"] = {}
        config["decoding"] = {"greedy": {"max_symbols": 4}}
        config["joint"]["num_extra_outputs"] = 0
    return config


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", ["tdt", "rnnt"])
def test_covers_the_family(tmp_path: Path, kind: str, layers: int, activation: str) -> None:
    config = transducer_config(kind=kind, layers=layers, activation=activation)
    model = cast("Transducer", random_model(config))
    # Tokens, blanks and durations in a lively mixture.
    random = np.random.default_rng(5)
    out = model.joint.joint_net[-1]
    out.weight = mx.array(random.normal(0, 1, out.weight.shape).astype(np.float32))
    bias = np.zeros(out.weight.shape[0], np.float32)
    bias[len(model.vocabulary)] = {"relu": 15, "tanh": 12, "sigmoid": 7}[activation]
    out.bias = mx.array(bias)
    checkpoint = save(cast("BaseParakeet", model), config, tmp_path)
    networks = load("m", config, checkpoint.weights, precision="fp32", cache=tmp_path / "cache", threads=1)
    frames = mx.array(random.normal(0, 3, (4, 60, 64)).astype(np.float32))
    projected = floats(model.joint.enc(frames))
    decoder = decoder_of(networks)

    batch = decoder.decode(projected, [DecodeRange(0, 60, decoder.start)] * 4)

    for row, decoded in enumerate(batch):
        assert plain(decoded) == read_by_mlx(model, frames[row : row + 1], 60)
    assert sum(len(decoded.emissions) for decoded in batch) > 40


def test_reads_ctc_as_parakeet_mlx_does(tmp_path: Path) -> None:
    config = small_config()
    vocabulary = config["joint"]["vocabulary"][:40]
    config |= {
        "target": CTC,
        "decoder": {"feat_in": 64, "num_classes": 40, "vocabulary": vocabulary},
        "decoding": {"greedy": None},
    }
    model = cast("ParakeetCTC", random_model(config))
    random = np.random.default_rng(9)
    features = random.normal(0, 1, (3, 600, 80)).astype(np.float32)
    counts = np.array([600, 300, 9])
    frames, mlx_lengths = Encoder(model.encoder, on_gpu=False)(mx.array(features), counts.tolist())
    # Without what all frames share, for otherwise the same token is the likeliest in all of them.
    shared = floats(frames[0]).mean(axis=0)
    weight = random.normal(0, 1, (41, 64))
    weight -= np.outer(weight @ shared, shared) / np.square(shared).sum()
    model.load_weights([(f"{LAYER}.weight", mx.array(weight[:, None].astype(np.float32)))], strict=False)
    checkpoint = save(model, config, tmp_path)
    networks = load("m", config, checkpoint.weights, precision="fp32", cache=tmp_path / "cache", threads=1)

    logits, lengths = networks.encoder.encode(features, counts)

    expected = model.decode(frames, mx.array(mlx_lengths))
    tokens = 0
    for row, length in enumerate(lengths):
        emissions = greedy_ctc(logits[row, :length], networks.architecture.blank)
        seconds = networks.architecture.frame_s
        assert [(emission.token, emission.frame, emission.frames) for emission in emissions] == [
            (token.id, round(token.start / seconds), round(token.duration / seconds)) for token in expected[row]
        ]
        np.testing.assert_allclose(
            [emission.probability for emission in emissions], [token.confidence for token in expected[row]], atol=1e-3
        )
        tokens += len(emissions)
    assert networks.transducer is None
    assert tokens > 40
