from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Literal, TypeAlias

import mlx.core as mx
import numpy as np
import pytest
from parakeet_mlx import ParakeetRNNT, ParakeetTDT, boost
from parakeet_mlx.parakeet import Beam, DecodingConfig

from parakeet_service.adapters.inference.beam_search import Floats
from parakeet_service.adapters.inference.boosting import Booster, Boosters, Spelling, forms_of
from parakeet_service.adapters.inference.decoding import DecodeRange, Emission
from parakeet_service.adapters.inference.phrases import PhraseState
from parakeet_service.adapters.parakeet_mlx.decoders.host import HostDecoder
from parakeet_service.adapters.parakeet_mlx.decoders.network import HostNetwork
from parakeet_service.adapters.parakeet_mlx.decoders.transducer import Transducer, start_of
from parakeet_service.adapters.parakeet_mlx.features import LogMel
from parakeet_service.adapters.parakeet_mlx.transducing import search_decoder
from parakeet_service.domain.audio import Samples

from .transducers import RATE_HZ, clip_of, end_of, random_transducer

PHRASES = {"in the city": 2.0, "the comity": 3.0, "Street": 2.0, "early party": 4.0, "men": 1.0, "century": -2.0}
Plain: TypeAlias = list[tuple[int, int, int]]


@pytest.fixture(scope="module")
def encoded(model: ParakeetTDT, speech: Samples) -> list[mx.array]:
    """Encoder output of spans of speech that begin and end anywhere, half of them in noise."""
    log_mel = LogMel(model.preprocessor_config)
    random = np.random.default_rng(3)
    spans: list[mx.array] = []
    for index in range(24):
        clip = clip_of(random, speech, shortest_s=0.5, longest_s=4)
        noise = random.normal(0, 0.05 * (index % 2), len(clip)).astype(np.float32)
        spans.append(model.encoder(log_mel([clip + noise]))[0])
    return spans


def projected(model: Transducer, frames: mx.array) -> Floats:
    ours: Floats = HostNetwork(model).project(frames)[0]
    return ours


def pieces_of(model: Transducer) -> list[str]:
    return [piece.replace("▁", " ") for piece in model.vocabulary]


def search(
    model: Transducer, frames: mx.array, beam_size: int, weights: dict[str, float] | None = None
) -> tuple[Emission, ...]:
    booster = Booster(weights, Spelling(pieces_of(model))) if weights else None
    decoder = search_decoder(model, HostNetwork(model))
    count = frames.shape[1]
    return end_of(decoder.search(projected(model, frames), 0, count, beam_size=beam_size, booster=booster)).emissions


def upstream(model: Transducer, frames: mx.array, beam_size: int, weights: dict[str, float] | None = None) -> Plain:
    machine = boost.lift(boost.words(weights), model.vocabulary) if weights else boost.EMPTY
    (tokens,), _ = model.decode_beam(frames, config=DecodingConfig(Beam(beam_size, booster=machine)))
    ratio = model.time_ratio
    return [(token.id, round(token.start / ratio), round(token.duration / ratio)) for token in tokens]


def plain(emissions: Sequence[Emission]) -> Plain:
    return [(emission.token, emission.frame, emission.frames) for emission in emissions]


@pytest.mark.parametrize("weights", [None, PHRASES], ids=["plain", "boosted"])
@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_gives_the_tokens_and_times_of_parakeet_mlx(
    model: ParakeetTDT, encoded: Sequence[mx.array], beam_size: int, weights: dict[str, float] | None
) -> None:
    heard = 0
    for frames in encoded:
        emissions = search(model, frames, beam_size, weights)
        assert plain(emissions) == upstream(model, frames, beam_size, weights)
        assert all(0 < emission.probability <= 1 for emission in emissions)
        heard += len(emissions)
    assert heard > 150


@pytest.mark.parametrize("weights", [None, PHRASES], ids=["plain", "boosted"])
@pytest.mark.parametrize(("layers", "activation"), [(1, "relu"), (2, "tanh"), (3, "sigmoid")])
@pytest.mark.parametrize("kind", ["tdt", "rnnt"])
def test_covers_the_family(
    kind: Literal["tdt", "rnnt"], layers: int, activation: str, weights: dict[str, float] | None
) -> None:
    model = random_transducer(kind, layers=layers, activation=activation)
    assert isinstance(model, ParakeetTDT if kind == "tdt" else ParakeetRNNT)
    frames = mx.array(np.random.default_rng(6).normal(0, 3, (4, 30, 256)).astype(np.float32))
    heard = 0
    for row in range(4):
        emissions = search(model, frames[row : row + 1], 4, weights)
        assert plain(emissions) == upstream(model, frames[row : row + 1], 4, weights)
        heard += len(emissions)
    assert heard > 20


def test_gives_way_at_every_step_and_reads_a_part_as_if_it_were_all(
    model: ParakeetTDT, encoded: Sequence[mx.array]
) -> None:
    frames = max(encoded, key=lambda frames: frames.shape[1])
    count = frames.shape[1]
    decoder, ours = search_decoder(model, HostNetwork(model)), projected(model, frames)
    assert sum(1 for _ in decoder.search(ours, 0, count, beam_size=3)) > count / 4
    part = end_of(decoder.search(ours, 4, count - 3, beam_size=3))
    whole = end_of(decoder.search(ours[4 : count - 3], 0, count - 7, beam_size=3))
    assert plain(part.emissions) == [(token, frame + 4, lasts) for token, frame, lasts in plain(whole.emissions)]
    assert end_of(decoder.search(ours, 4, 4, beam_size=3)).emissions == ()


@pytest.mark.parametrize("weights", [None, PHRASES], ids=["plain", "boosted"])
def test_goes_on_from_a_state_as_if_it_had_read_all_at_once(
    model: ParakeetTDT, encoded: Sequence[mx.array], weights: dict[str, float] | None
) -> None:
    booster = Booster(weights, Spelling(pieces_of(model))) if weights else None
    decoder = search_decoder(model, HostNetwork(model))
    heard = alike = 0
    for frames in encoded:
        ours, count = projected(model, frames), frames.shape[1]
        whole = end_of(decoder.search(ours, 0, count, beam_size=4, booster=booster, linger=4))
        state, begin, pieces = None, 0, list[Emission]()
        while begin < count:
            # As live windows come: a second of audio, and two that have their say in it.
            until, end = min(begin + 12, count), min(begin + 36, count)
            if end == count:
                until = count
            step = end_of(
                decoder.search(ours, begin, end, beam_size=4, booster=booster, linger=4, state=state, final_until=until)
            )
            assert all(emission.frame < until for emission in step.emissions[: step.final])
            assert all(emission.frame >= until for emission in step.emissions[step.final :])
            pieces += step.emissions[: step.final]
            state, begin = step.state, until
        starts = [emission.frame for emission in pieces]
        assert starts == sorted(starts)
        tokens, at_once = [one.token for one in pieces], [one.token for one in whole.emissions]
        alike += sum(block.size for block in SequenceMatcher(None, tokens, at_once).get_matching_blocks())
        heard += max(len(tokens), len(at_once))
    assert heard > 150
    # What was final before a likelier reading came up stays as it is.
    assert alike > 0.95 * heard


def test_is_as_sure_of_a_token_as_the_greedy_decoder(model: ParakeetTDT, encoded: Sequence[mx.array]) -> None:
    frames = max(encoded, key=lambda frames: frames.shape[1])
    (greedy,) = HostDecoder(model).decode(frames, [DecodeRange(0, frames.shape[1], start_of(model))])
    searched = search(model, frames, 5)
    # Up to where they part: behind another token the same one is as likely as it is there.
    agreed = list(
        takewhile(
            lambda pair: (pair[0].frame, pair[0].token) == (pair[1].frame, pair[1].token),
            zip(greedy.emissions, searched, strict=False),
        )
    )
    assert len(agreed) > 10
    sure, searched_sure = zip(*[(one.probability, other.probability) for one, other in agreed], strict=True)
    np.testing.assert_allclose(np.array(sure), np.array(searched_sure), atol=1e-4)


def test_a_table_says_of_each_token_what_upstream_says(model: ParakeetTDT) -> None:
    machine = boost.lift(boost.words(PHRASES), model.vocabulary)
    booster = Booster(PHRASES, Spelling(pieces_of(model)))
    state, random = booster.start, np.random.default_rng(4)
    seen: set[PhraseState] = set()
    for _ in range(300):
        upstreams = [boost.advance(machine, state, token) for token in range(len(model.vocabulary))]
        table = booster.table(state)
        np.testing.assert_allclose(table, [delta for _, delta in upstreams], atol=1e-6)
        seen.add(state)
        # On to where there is something to gain.
        token = int(random.choice(np.flatnonzero(table > 0)))
        assert booster.advance(state, token) == upstreams[token]
        state = upstreams[token][0]
    assert len(seen) > 20


def test_lingering_keeps_the_last_words(model: ParakeetTDT, speech: Samples) -> None:
    log_mel, decoder = LogMel(model.preprocessor_config), search_decoder(model, HostNetwork(model))
    random = np.random.default_rng(9)
    lost = kept = 0
    for _ in range(12):
        begin = int(random.integers(0, len(speech) - 3 * RATE_HZ))
        frames = model.encoder(log_mel([speech[begin : begin + 3 * RATE_HZ]]))[0]
        count = frames.shape[1]
        (greedy,) = HostDecoder(model).decode(frames, [DecodeRange(0, count, start_of(model))])
        cut = end_of(decoder.search(projected(model, frames), 0, count, beam_size=4)).emissions
        whole = end_of(
            decoder.search(projected(model, frames), 0, count, beam_size=4, linger=decoder.longest_move)
        ).emissions
        lost += len(greedy.emissions) > len(cut) + 1
        kept += len(greedy.emissions) <= len(whole) + 1
        assert all(emission.frame < count for emission in whole)
    assert lost > 2
    assert kept > 12 - lost


def test_phrases_match_however_their_words_begin() -> None:
    assert forms_of(["new  york", "Anna"]) == ["new york", "New york", "New York", "Anna", "anna"]
    assert forms_of(["iPhone X"]) == ["iPhone X", "IPhone X", "iPhone x", "IPhone x"]
    assert forms_of(["", " "]) == []


def test_the_boosters_of_the_last_phrases_are_kept(model: ParakeetTDT) -> None:
    boosters = Boosters(pieces_of(model))
    first = boosters.of({"a": 1.0})
    assert boosters.of({"a": 1.0}) is first
    assert boosters.of({"a": 2.0}) is not first
    for word in "bcde":
        boosters.of({word: 1.0})
    assert boosters.of({"a": 1.0}) is not first


def test_a_booster_forgets_states_rather_than_keep_them_all(model: ParakeetTDT) -> None:
    booster = Booster({"a" * 90: 1.0, "b" * 90: 1.0, "c" * 90: 1.0}, Spelling(pieces_of(model)))
    states = [(frozenset({node}), True) for node in range(1, 271)]
    tables = [booster.table(state).copy() for state in states]
    assert len(vars(booster)["_tables"]) < 256
    for state, table in zip(states, tables, strict=True):
        np.testing.assert_array_equal(booster.table(state), table)
