from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from structlog.testing import capture_logs

from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.inference.model import EngineModel
from parakeet_service.adapters.inference.progress import Doing, Progress
from parakeet_service.application.ports.speech_model import ModelDescription, StreamContext
from parakeet_service.domain.errors import InferenceError, ModelLoadError, ModelNotReadyError

RATE_HZ = 16000


@dataclass
class Engine:
    """Hears nothing, wants a batch of three, and notes what it is asked to prepare for and to run."""

    can_stream: bool = True
    frame_s: float = 0.08
    finite: bool = True
    asked: list[tuple[int | None, float, int]] = field(default_factory=list[tuple[int | None, float, int]])
    run_so_far: list[int] = field(default_factory=list[int])

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
        return [DecodeResult((), (), 0, 0, None) if self.finite else InferenceError("no") for _ in jobs]


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
        most_streams=2,
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
