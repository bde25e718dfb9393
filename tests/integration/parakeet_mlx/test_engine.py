from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import mlx.core as mx
import numpy as np
import pytest

from parakeet_service.adapters.inference.buffered_stream import BufferedStream
from parakeet_service.adapters.inference.checkpoint import locate
from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.parakeet_mlx import blas
from parakeet_service.adapters.parakeet_mlx.batching import CpuBatching, CudaBatching, GpuBatching, MakeBatching
from parakeet_service.adapters.parakeet_mlx.encoder import Encoder
from parakeet_service.adapters.parakeet_mlx.engine import MlxEngine
from parakeet_service.adapters.parakeet_mlx.features import LogMel
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


class OnGpu(NamedTuple):
    """An engine that forms batches as for a GPU, and computes them on the CPU; and what forms the batches."""

    engine: MlxEngine
    batching: GpuBatching


def on_gpu(kind: type[GpuBatching]) -> OnGpu:
    made: list[GpuBatching] = []

    def make(features: LogMel, encoder: Encoder, dtype: mx.Dtype) -> GpuBatching:
        made.append(kind(features, encoder, dtype))
        return made[0]

    return OnGpu(engine_of(make), made[0])


@pytest.fixture(scope="module")
def gpu() -> OnGpu:
    return on_gpu(GpuBatching)


@pytest.fixture
def cuda() -> OnGpu:
    """With nothing prepared yet."""
    return on_gpu(CudaBatching)


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


def audio(seconds: float) -> EncoderJob:
    return EncoderJob(np.zeros(int(seconds * RATE_HZ), np.float32))


def sizes(engine: MlxEngine, jobs: Sequence[EncoderJob], *, most: int = 64) -> list[int]:
    """How large the batches are in which these jobs are read."""
    taken: list[int] = []
    waiting = list(jobs)
    while waiting:
        chosen = engine.company(waiting, most)
        assert chosen[0] == 0
        assert list(chosen) == sorted(set(chosen))
        taken.append(len(chosen))
        waiting = [job for at, job in enumerate(waiting) if at not in chosen]
    return taken


def test_on_a_cpu_only_short_windows_of_one_length_run_together(engine: MlxEngine) -> None:
    assert sizes(engine, [audio(1)] * 20) == [12, 8]
    assert sizes(engine, [audio(10)] * 3) == [1, 1, 1]
    assert engine.company([audio(1), audio(4), audio(1)], 64) == [0, 2]
    assert engine.prepare(None, longest_s=60, most=64) == []


@pytest.mark.parametrize("kind", ["gpu", "cuda"])
def test_on_a_gpu_windows_of_different_lengths_run_together(kind: str, gpu: OnGpu, cuda: OnGpu) -> None:
    chosen, batching = {"gpu": gpu, "cuda": cuda}[kind]
    for batch in batching.prepare(None, longest_s=60, most=64):
        batching.shape(batch)
    assert sizes(chosen, [audio(seconds) for seconds in (3, 10, 8, 6, 9, 10, 4, 7)]) == [8]
    # One long window does not drag many short ones to its length.
    assert chosen.company([audio(60), *[audio(1)] * 60], 64) == [0]
    assert chosen.company([*[audio(1)] * 60, audio(60)], 64) == list(range(60))


def test_on_a_gpu_a_batch_that_fills_it_is_whole(gpu: OnGpu) -> None:
    live = EncoderJob(NO_SAMPLES, full=14 * RATE_HZ)
    for waiting, size in ((1, 1), (3, 3), (10, 8), (16, 16), (18, 16), (31, 31), (32, 32), (200, 32)):
        assert len(gpu.engine.company([live] * waiting, 64)) == size


def test_on_cuda_a_batch_has_a_shape_that_was_prepared(cuda: OnGpu) -> None:
    batches = cuda.batching.prepare(None, longest_s=16, most=4)
    assert len(batches[0]) == 1
    frames = [1 + len(batch[0].samples) // 160 for batch in batches]
    assert sorted(zip(map(len, batches), frames, strict=True)) == [
        (size, length) for size in (1, 2, 4) for length in (256, 512, 1024, 1536, 2048)
    ]
    random = np.random.default_rng(3)
    for batch in batches:
        cuda.batching.shape(batch)
    for _ in range(100):
        jobs = [audio(seconds) for seconds in random.uniform(0.2, 16, int(random.integers(1, 5)))]
        length, size = cuda.batching.shape(jobs)
        assert size in (1, 2, 4)
        assert length in (256, 512, 1024, 1536, 2048)
        assert size >= len(jobs)
        assert length >= max(1 + len(job.samples) // 160 for job in jobs)


def test_on_cuda_with_little_memory_batches_are_smaller() -> None:
    made: list[CudaBatching] = []

    def make(features: LogMel, encoder: Encoder, dtype: mx.Dtype) -> CudaBatching:
        made.append(CudaBatching(features, encoder, dtype, most_frames=4096))
        return made[0]

    engine_of(make)
    shapes = [made[0].shape(batch) for batch in made[0].prepare(None, longest_s=60, most=64)]
    assert (6144, 1) in shapes
    assert max(length * size for length, size in shapes if size > 1) == 4096


def test_on_cuda_what_was_not_prepared_is_read_in_what_was(cuda: OnGpu) -> None:
    for batch in cuda.batching.prepare(None, longest_s=16, most=4)[:7]:
        cuda.batching.shape(batch)
    # Singles of all five lengths, and pairs of the two shortest: no others may be formed.
    assert sizes(cuda.engine, [audio(10)] * 3) == [1, 1, 1]
    assert sizes(cuda.engine, [audio(2)] * 3) == [2, 1]
    # Others are padded to the least that holds them.
    assert cuda.batching.shape([audio(1), audio(4)]) == (512, 2)
    cuda.batching.shape([audio(15)] * 4)
    assert cuda.batching.shape([audio(1)] * 3) == (1536, 4)


@pytest.mark.parametrize("kind", ["gpu", "cuda"])
def test_on_a_gpu_windows_of_all_lengths_read_together_as_alone(
    kind: str, engine: MlxEngine, gpu: OnGpu, cuda: OnGpu, windows: Sequence[EncoderJob]
) -> None:
    chosen = {"gpu": gpu, "cuda": cuda}[kind].engine
    together = read(chosen, windows[:5])
    assert [plain(reading) for reading in together] == [plain(read(engine, [one])[0]) for one in windows[:5]]
    drafts = [replace(one, finalized_until=3, end=1000) if at % 2 else one for at, one in enumerate(windows[5:10])]
    together = read(chosen, drafts)
    assert [plain(reading) for reading in together] == [plain(read(engine, [one])[0]) for one in windows[5:10]]
    assert [bool(reading.draft) for reading in together] == [False, True, False, True, False]


def test_on_a_gpu_live_windows_have_one_shape(engine: MlxEngine, gpu: OnGpu, speech: Samples) -> None:
    live = [EncoderJob(speech[: seconds * RATE_HZ], full=14 * RATE_HZ) for seconds in (1, 4, 9)]
    alone = [plain(read(engine, [one])[0]) for one in live]
    assert len({gpu.batching.shape([one]) for one in live}) == 1
    assert [plain(reading) for reading in read(gpu.engine, live)] == alone


def test_what_a_gpu_prepares_with_is_like_the_windows_of_a_long_stream(
    engine: MlxEngine, gpu: OnGpu, speech: Samples
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
    assert gpu.batching.shape([prepared]) == gpu.batching.shape([last])
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
    window = EncoderJob(speech[: 6 * RATE_HZ], decoding=Decoding(beam_size=2), first_frame=50)
    (reading,) = read(engine, [replace(window, begin=10, finalized_until=40)])
    assert (reading.finalized_until, reading.decoded_until, reading.draft) == (40, 40, ())
    assert reading.finalized
    assert all(60 <= round(token.start_s / engine.frame_s) < 90 for token in reading.finalized)


def test_a_search_gives_way_at_every_step(engine: MlxEngine, speech: Samples) -> None:
    window = EncoderJob(speech[: 5 * RATE_HZ])
    plainly = sum(1 for _ in engine.run([window]))
    assert sum(1 for _ in engine.run([replace(window, decoding=Decoding(beam_size=4))])) > plainly + 20


def test_searches_are_read_alone(engine: MlxEngine, windows: Sequence[EncoderJob]) -> None:
    searched = replace(windows[0], decoding=Decoding(beam_size=4))
    assert engine.company([searched, windows[0], searched], 8) == [0]
    assert 1 not in engine.company([windows[0], searched, windows[0]], 8)


def test_a_search_leaves_a_draft_and_goes_on_from_its_state(engine: MlxEngine, speech: Samples) -> None:
    whole = EncoderJob(speech[: 6 * RATE_HZ], decoding=Decoding(beam_size=2))
    (at_once,) = read(engine, [whole])
    (first,) = read(engine, [replace(whole, finalized_until=30, end=100)])
    assert (first.finalized_until, first.decoded_until) == (30, at_once.decoded_until)
    assert first.draft
    assert first.state is not None
    (rest,) = read(engine, [replace(whole, begin=30, state=first.state)])
    texts = ["".join(token.text for token in one) for one in ((*first.finalized, *rest.finalized), at_once.finalized)]
    assert texts[0] == texts[1]
