from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from parakeet_service.adapters.inference.buffered_stream import BufferedStream
from parakeet_service.adapters.inference.checkpoint import locate
from parakeet_service.adapters.inference.decoding import DecoderState
from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.parakeet_mlx import blas
from parakeet_service.adapters.parakeet_mlx.batching import CpuBatching, GpuBatching, MakeBatching
from parakeet_service.adapters.parakeet_mlx.engine import MlxEngine
from parakeet_service.adapters.parakeet_mlx.loading import load_engine
from parakeet_service.application.ports.speech_model import Decoding, StreamContext
from parakeet_service.domain.audio import NO_SAMPLES, Samples
from parakeet_service.domain.errors import InferenceError

from .transducers import RATE_HZ, clip_of, end_of


def engine_of(batching: MakeBatching) -> MlxEngine:
    return load_engine(
        locate("embedded", offline=True),
        precision="fp32",
        blas=blas.preload(),
        cache_limit_bytes=256 << 20,
        batching=batching,
    )


@pytest.fixture(scope="module")
def engine() -> MlxEngine:
    return engine_of(CpuBatching)


@pytest.fixture(scope="module")
def gpu_engine() -> MlxEngine:
    """Forms batches as for a GPU, and computes them on the CPU."""
    return engine_of(GpuBatching)


@pytest.fixture(scope="module")
def windows(speech: Samples) -> list[EncoderJob]:
    """Stretches of speech from a fifth of a second to four seconds, of lengths that divide by nothing."""
    random = np.random.default_rng(7)
    return [EncoderJob(clip_of(random, speech, shortest_s=0.2, longest_s=4)) for _ in range(60)]


def read(engine: MlxEngine, windows: Sequence[EncoderJob]) -> list[DecodeResult]:
    readings = end_of(engine.run(windows))
    return [reading for reading in readings if isinstance(reading, DecodeResult)]


def plain(reading: DecodeResult) -> list[tuple[int, float, float]]:
    return [(token.id, token.start_s, token.end_s) for token in reading.finalized + reading.draft]


def test_a_window_reads_in_any_company_as_it_does_alone(engine: MlxEngine, windows: Sequence[EncoderJob]) -> None:
    alone = [read(engine, [window])[0] for window in windows]
    assert sum(len(reading.finalized) for reading in alone) > 300
    random = np.random.default_rng(8)
    for _ in range(120):
        picked: list[int] = random.integers(len(windows), size=int(random.integers(2, 6))).tolist()
        together = read(engine, [windows[i] for i in picked])
        assert [plain(reading) for reading in together] == [plain(alone[i]) for i in picked]
        for reading, i in zip(together, picked, strict=True):
            np.testing.assert_allclose(
                [token.confidence for token in reading.finalized],
                [token.confidence for token in alone[i].finalized],
                atol=1e-3,
            )


def test_a_draft_and_what_is_final_are_what_one_reading_gives(engine: MlxEngine, speech: Samples) -> None:
    window = EncoderJob(speech[: 5 * RATE_HZ], first_frame=100)
    (whole,) = read(engine, [window])
    settles = [0, 7, 20, 33, 50]
    parts = read(engine, [replace(window, finalized_until=settle, end=1000) for settle in settles])
    for settle, part in zip(settles, parts, strict=True):
        assert plain(part) == plain(whole)
        assert (part.finalized_until, part.decoded_until) == (settle, whole.decoded_until)
        assert all(token.start_s < (100 + settle) * engine.frame_s for token in part.finalized)


def test_goes_on_from_a_state(engine: MlxEngine, speech: Samples) -> None:
    window = EncoderJob(speech[: 5 * RATE_HZ])
    (whole,) = read(engine, [window])
    for settle in (7, 20, 33, 50):
        (begin,) = read(engine, [replace(window, finalized_until=settle)])
        (rest,) = read(engine, [replace(window, begin=settle, state=begin.state)])
        assert plain(begin) + plain(rest) == plain(whole)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_window_that_is_not_finite_fails_alone(
    engine: MlxEngine, windows: Sequence[EncoderJob], value: float
) -> None:
    spoilt = windows[1].samples.copy()
    spoilt[999] = value
    sound, error, other = end_of(engine.run([windows[0], EncoderJob(spoilt), windows[2]]))
    assert isinstance(error, InferenceError)
    assert isinstance(sound, DecodeResult)
    assert isinstance(other, DecodeResult)
    assert [plain(sound), plain(other)] == [plain(read(engine, [windows[i]])[0]) for i in (0, 2)]


def test_buckets_are_few_and_tight(engine: MlxEngine) -> None:
    lengths = range(160, 60 * RATE_HZ, 160)
    padded = [engine.bucket(EncoderJob(np.empty(length, np.float32)))[0] for length in lengths]
    frames = [1 + length // 160 for length in lengths]
    assert all(count <= bucket <= max(1.25 * count, count + 31) for count, bucket in zip(frames, padded, strict=True))
    assert len(set(padded)) < 40


def test_on_a_gpu_live_windows_have_one_shape(engine: MlxEngine, gpu_engine: MlxEngine, speech: Samples) -> None:
    live = [EncoderJob(speech[: seconds * RATE_HZ], full=14 * RATE_HZ) for seconds in (1, 4, 9)]
    alone = [plain(read(engine, [one])[0]) for one in live]
    assert len({engine.bucket(one) for one in live}) == 3

    assert len({gpu_engine.bucket(one) for one in live}) == 1
    assert [plain(reading) for reading in read(gpu_engine, live)] == alone


def test_on_a_gpu_only_batches_that_fill_it_are_held_to_whole_shapes(engine: MlxEngine, gpu_engine: MlxEngine) -> None:
    live, clip = EncoderJob(NO_SAMPLES, full=14 * RATE_HZ), EncoderJob(np.zeros(RATE_HZ, np.float32))
    assert [engine.room(clip, waiting) for waiting in (1, 9, 100)] == [12, 12, 12]

    assert [gpu_engine.room(live, waiting) for waiting in (1, 3, 10, 11, 15, 16, 31, 32, 200)] == [
        *(1, 3, 10),
        *(8, 8, 16, 16, 32, 32),
    ]
    assert [gpu_engine.room(clip, waiting) for waiting in (1, 100, 200)] == [1, 100, 128]


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (4, [1, 2, 4]), (5, [1, 2, 4, 8]), (64, [1, 2, 4, 8, 16, 32])])
def test_a_gpu_prepares_for_every_shape_that_live_batches_have(
    engine: MlxEngine, gpu_engine: MlxEngine, most: int, sizes: list[int]
) -> None:
    live = EncoderJob(NO_SAMPLES, begin=62, finalized_until=75, end=175, full=14 * RATE_HZ)
    assert engine.shapes(live, most=most) == []

    batches = gpu_engine.shapes(live, most=most)
    assert [len(batch) for batch in batches] == [*sizes, *([3] if most > 2 else [])]
    assert {window.end for window in batches[-1]} == ({0, 175} if most > 2 else {175})
    for waiting in range(1, most + 1):
        size = min(waiting, gpu_engine.room(live, waiting))
        assert any(size <= padded < 2 * size for padded in sizes)


def test_what_a_gpu_prepares_with_is_like_the_windows_of_a_long_stream(
    engine: MlxEngine, gpu_engine: MlxEngine, speech: Samples
) -> None:
    context = StreamContext(left_s=5, chunk_s=1, right_s=8)
    prepared, stream = BufferedStream(engine, context).complete_job, BufferedStream(engine, context)
    reading = read(engine, [prepared])[0]
    assert (reading.finalized_until, reading.decoded_until) == (prepared.finalized_until, prepared.end)

    heard: list[EncoderJob] = []
    for at in range(20):
        stream.append(speech[at * RATE_HZ : (at + 1) * RATE_HZ] if at < 8 else speech[:RATE_HZ])
        if (window := stream.next_job()) is not None:
            stream.accept(read(engine, [window])[0])
            heard.append(window)
    last = heard[-1]
    assert gpu_engine.bucket(prepared) == gpu_engine.bucket(last)
    assert prepared.finalized_until is not None
    assert last.finalized_until is not None
    assert (prepared.begin, prepared.full) == (last.begin, last.full)
    assert abs(prepared.finalized_until - last.finalized_until) <= 1
    assert abs(prepared.end - last.end) <= 1


def test_gives_way_often(engine: MlxEngine, speech: Samples) -> None:
    assert sum(1 for _ in engine.run([EncoderJob(speech)])) > 10


SEARCHES = [Decoding(beam_size=3), Decoding(phrases=("the printer Gutenberg", "men of work")), Decoding(8, ("city",))]


def test_searches_read_together_as_they_do_alone(engine: MlxEngine, windows: Sequence[EncoderJob]) -> None:
    searched = [replace(window, decoding=SEARCHES[i % 3]) for i, window in enumerate(windows[:12])]
    together = read(engine, searched)
    assert [plain(reading) for reading in together] == [plain(read(engine, [one])[0]) for one in searched]
    assert sum(len(reading.finalized) for reading in together) > 80


def test_a_search_ends_within_its_window_and_in_order(engine: MlxEngine, windows: Sequence[EncoderJob]) -> None:
    for i, window in enumerate(windows[:20]):
        (reading,) = read(engine, [replace(window, decoding=SEARCHES[i % 3])])
        starts = [token.start_s for token in reading.finalized]
        assert starts == sorted(starts)
        assert all(start < reading.decoded_until * engine.frame_s for start in starts)


def test_a_search_of_a_part_is_one_of_these_frames(engine: MlxEngine, speech: Samples) -> None:
    window = EncoderJob(speech[: 5 * RATE_HZ], decoding=Decoding(beam_size=2), first_frame=50)
    (reading,) = read(engine, [replace(window, begin=10, finalized_until=40)])
    assert (reading.finalized_until, reading.decoded_until, reading.draft, reading.state) == (40, 40, (), None)
    assert reading.finalized
    assert all(60 <= round(token.start_s / engine.frame_s) < 90 for token in reading.finalized)


def test_a_search_gives_way_at_every_step(engine: MlxEngine, speech: Samples) -> None:
    window = EncoderJob(speech[: 5 * RATE_HZ])
    plainly = sum(1 for _ in engine.run([window]))
    assert sum(1 for _ in engine.run([replace(window, decoding=Decoding(beam_size=4))])) > plainly + 20


def test_searches_are_read_alone(engine: MlxEngine, windows: Sequence[EncoderJob]) -> None:
    searched = replace(windows[0], decoding=Decoding(beam_size=4))
    assert engine.bucket(searched) != engine.bucket(windows[0])
    assert engine.room(searched, 8) == 1


def test_a_search_has_no_draft_and_no_state(speech: Samples) -> None:
    nothing = np.zeros((1, 1), np.float32)
    state = DecoderState(skip=0, last=0, repeats=0, hidden=nothing, cell=nothing)
    with pytest.raises(ValueError, match="no draft"):
        EncoderJob(speech, end=3, decoding=Decoding(beam_size=2))
    with pytest.raises(ValueError, match="no state"):
        EncoderJob(speech, state=state, decoding=Decoding(beam_size=2))
