import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from structlog.testing import capture_logs

from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.inference.model import EngineModel
from parakeet_service.adapters.inference.progress import Doing, Progress
from parakeet_service.application.ports.speech_model import ModelDescription, RecognitionStream, StreamContext
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import InferenceError, ModelLoadError, ModelNotReadyError
from tests.unit.application.doubles import turns

RATE_HZ = 16000


@dataclass
class Engine:
    """Hears nothing, wants a batch of three, and notes what it is asked to prepare for and to run.

    It ends no live job before it is `free`; `live_s` are their lengths.
    """

    can_stream: bool = True
    frame_s: float = 0.08
    finite: bool = True
    asked: list[tuple[int | None, float, int]] = field(default_factory=list[tuple[int | None, float, int]])
    run_so_far: list[int] = field(default_factory=list[int])
    live_s: list[float] = field(default_factory=list[float])
    free: threading.Event = field(default_factory=threading.Event)
    at_work: threading.Event = field(default_factory=threading.Event)

    @property
    def description(self) -> ModelDescription:
        return ModelDescription("m", "tdt", ("en",), "bf16", "float32", "cpu", None, RATE_HZ, 20.0, batch_size=3)

    def company(self, jobs: Sequence[EncoderJob], most: int) -> Sequence[int]:
        return range(min(len(jobs), most))

    def seconds(self, job: EncoderJob) -> float:
        return len(job.samples) / RATE_HZ

    def prepare(self, live: EncoderJob | None, *, longest_s: float, most: int) -> Sequence[Sequence[EncoderJob]]:
        self.asked.append((None if live is None else len(live.samples), longest_s, most))
        return [[EncoderJob(np.ones(100, np.float32))] * size for size in (1, 2)]

    def run(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, list[DecodeResult | InferenceError]]:
        self.run_so_far.append(len(jobs))
        yield
        if any(job.full for job in jobs):
            self.live_s += [len(job.samples) / RATE_HZ for job in jobs]
            self.at_work.set()
            self.free.wait()
        good = [DecodeResult((), (), job.finalized_until or 0, job.end, None) for job in jobs]
        return [result if self.finite else InferenceError("no") for result in good]


@asynccontextmanager
async def started(
    engine: Engine,
    *,
    batch_size: int | None = None,
    context: StreamContext | None = None,
    longest_window_s: float = 30,
) -> AsyncGenerator[EngineModel]:
    model = EngineModel(
        lambda: engine,
        sample_rate_hz=RATE_HZ,
        batch_size=batch_size,
        most_waiting=None,
        most_streams=4,
        context=context,
        longest_window_s=longest_window_s,
    )
    try:
        await model.start()
        yield model
    finally:
        await model.aclose()


@pytest.mark.parametrize(("given", "effective"), [(None, 3), (7, 7)])
async def test_batches_are_as_large_as_is_set_or_as_suits_the_device(given: int | None, effective: int) -> None:
    engine = Engine()
    async with started(engine, batch_size=given) as model:
        assert model.describe().batch_size == effective
        assert [most for _, _, most in engine.asked] == [effective]


async def test_is_ready_once_all_shapes_are_prepared_and_tells_how_far_it_is() -> None:
    engine = Engine()
    with capture_logs() as logs:
        async with started(engine):
            assert engine.run_so_far == [1, 1, 2]
    assert [entry["done"] for entry in logs if entry["event"] == "preparing_shapes"] == ["2/2"]


@pytest.mark.parametrize(("longest_window_s", "longest_s"), [(12.0, 12.0), (60.0, 20.0)])
async def test_prepares_for_the_longest_window_that_there_can_be(longest_window_s: float, longest_s: float) -> None:
    engine = Engine()
    async with started(engine, longest_window_s=longest_window_s):
        assert [longest for _, longest, _ in engine.asked] == [longest_s]


@pytest.mark.parametrize(
    ("context", "samples"),
    [
        (StreamContext(left_s=4, chunk_s=1, right_s=4), 9 * RATE_HZ),
        (StreamContext(left_s=40, chunk_s=1, right_s=4), None),
        (None, None),
    ],
)
async def test_prepares_for_live_text_that_fits_the_model(context: StreamContext | None, samples: int | None) -> None:
    engine = Engine()
    async with started(engine, context=context):
        assert [live for live, _, _ in engine.asked] == [samples]


async def test_does_not_start_with_weights_that_give_nonsense() -> None:
    with pytest.raises(ModelLoadError, match="not finite"):
        async with started(Engine(finite=False)):
            pass


@pytest.mark.parametrize(
    ("doing", "message"),
    [("downloading", "being downloaded"), ("building", "being built")],
)
def test_tells_how_far_loading_is(doing: Doing, message: str) -> None:
    progress = Progress()
    model = EngineModel(
        Engine,
        sample_rate_hz=RATE_HZ,
        batch_size=None,
        most_waiting=None,
        most_streams=2,
        progress=progress,
    )
    with pytest.raises(ModelNotReadyError, match="still loading") as early:
        model.describe()
    assert "state" not in early.value.details

    progress.begin(doing, "m", 300)
    progress.add(100)

    with pytest.raises(ModelNotReadyError, match=message) as told:
        model.describe()
    details = told.value.details
    assert (details["state"], details["done_bytes"], details["total_bytes"]) == (doing, 100, 300)


CONTEXT = StreamContext(left_s=4, chunk_s=1, right_s=4)


def audio(seconds: float) -> Samples:
    return np.tile(np.array([0.1, -0.1], np.float32), int(seconds * RATE_HZ / 2))


@asynccontextmanager
async def busy(engine: Engine) -> AsyncGenerator[list[RecognitionStream]]:
    """Four streams of a model that reads one job at a time and is at work for the first; the second waits."""
    async with started(engine, batch_size=1) as model, AsyncExitStack() as held:
        streams = [await held.enter_async_context(model.open_stream(CONTEXT)) for _ in range(4)]
        tasks = [asyncio.create_task(stream.decode(audio(1))) for stream in streams[:2]]
        assert await asyncio.to_thread(engine.at_work.wait, 60)
        try:
            yield streams
        finally:
            engine.free.set()
            await asyncio.gather(*tasks)


async def test_a_draft_is_made_of_all_that_has_come_when_its_turn_does() -> None:
    engine = Engine()
    async with busy(engine) as streams:
        waiting = asyncio.create_task(streams[2].decode(audio(1)))
        await asyncio.sleep(0)
        assert [await streams[2].decode(audio(0.5)), await streams[2].decode(audio(1.3))] == [None, None]
        engine.free.set()
        hypothesis = await waiting
    assert hypothesis is not None
    assert hypothesis.decoded_until_s == pytest.approx(2.8, abs=0.08)
    assert engine.live_s == pytest.approx([1.0, 1.0, 2.8], abs=0.08)


async def test_the_end_of_an_utterance_waits_for_no_turn_and_takes_the_place_of_its_draft() -> None:
    engine = Engine()
    async with busy(engine) as streams:
        drafts = [asyncio.create_task(stream.decode(audio(1 + number))) for number, stream in enumerate(streams[2:])]
        await asyncio.sleep(0)
        ending = asyncio.create_task(streams[3].flush())
        await turns()
        engine.free.set()
        await ending
        hypotheses = await asyncio.gather(*drafts)
    # The one that ends was asked for last, and is read before the draft that waited.
    assert engine.live_s == pytest.approx([1.0, 2.0, 1.0, 1.0], abs=0.08)
    assert [hypothesis is None for hypothesis in hypotheses] == [False, True]


async def test_a_beginning_elsewhere_takes_the_place_of_the_draft_before() -> None:
    engine = Engine()
    async with busy(engine) as streams:
        before = asyncio.create_task(streams[2].decode(audio(1)))
        await asyncio.sleep(0)
        after = asyncio.create_task(streams[2].decode(audio(1.5), start_s=20))
        await turns()
        engine.free.set()
        assert await before is None
        hypothesis = await after
    assert hypothesis is not None
    assert hypothesis.decoded_until_s == pytest.approx(21.5, abs=0.08)


async def test_a_listener_who_leaves_gives_its_turn_to_the_next() -> None:
    engine = Engine()
    async with busy(engine) as streams:
        leaving, staying = (asyncio.create_task(stream.decode(audio(1))) for stream in streams[2:])
        await turns()
        leaving.cancel()
        await asyncio.wait((leaving,))
        engine.free.set()
        assert await staying is not None
    assert leaving.cancelled()
    assert len(engine.live_s) == 3
