"""The model in a process of its own: what it says is right, and its crashes stay there."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import structlog
from structlog.testing import capture_logs

from parakeet_service.adapters.isolation.model import IsolatedModel
from parakeet_service.adapters.parakeet_mlx.model import parakeet_mlx_model
from parakeet_service.application.ports.metrics import ClusterMetrics, NullMetrics
from parakeet_service.application.ports.speech_model import Decoding, ModelDescription, SpeechModel, StreamContext
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import (
    InferenceError,
    InvalidRequestError,
    ModelLoadError,
    ModelNotReadyError,
    OverloadedError,
    ShuttingDownError,
    TooManyStreamsError,
)
from parakeet_service.domain.hypothesis import Hypothesis
from parakeet_service.domain.transcript import Token
from tests.contracts.speech_model import SpeechModelContract
from tests.scripted_model import ScriptedModel

from .crashing_model import (
    DEADLY,
    DEFECTIVE,
    OVERLOADING,
    REFUSED,
    TALKATIVE,
    CrashingModel,
    Orders,
    samples_that_are,
    scripted_model,
)

CONTEXT = StreamContext(left_s=1, chunk_s=0.5, right_s=0.5)
SPOKEN = samples_that_are(0.9)


class TestIsolatedModel(SpeechModelContract):
    def make(self, *, max_streams: int = 4) -> SpeechModel:
        return IsolatedModel(partial(scripted_model, max_streams=max_streams))


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    return Orders(tmp_path)


@asynccontextmanager
async def running(
    orders: Orders,
    *,
    restarts: int = 10,
    patience_s: float = 60.0,
    ping_every_s: float = 60.0,
    metrics: ClusterMetrics | None = None,
) -> AsyncGenerator[IsolatedModel]:
    make = partial(CrashingModel, orders.directory)
    pauses_s = tuple(0.01 * number for number in range(restarts))
    model = IsolatedModel(
        make,
        metrics=metrics,
        prepare=partial(logging.basicConfig, level="INFO"),
        pauses_s=pauses_s,
        patience_s=patience_s,
        ping_every_s=ping_every_s,
    )
    await model.start()
    try:
        yield model
    finally:
        await model.aclose()


async def expected(samples: Samples = SPOKEN) -> tuple[Token, ...]:
    model = ScriptedModel()
    await model.start()
    return await model.transcribe(samples)


def kill(model: IsolatedModel, number: signal.Signals = signal.SIGKILL) -> None:
    assert model.pid is not None
    os.kill(model.pid, number)


async def becomes_unready(model: IsolatedModel) -> Exception:
    while True:
        try:
            model.describe()
        except (ModelNotReadyError, ModelLoadError) as error:
            return error
        await asyncio.sleep(0.01)


async def becomes_ready(model: IsolatedModel) -> None:
    while True:
        try:
            model.describe()
        except ModelNotReadyError:
            await asyncio.sleep(0.01)
        else:
            return


async def test_a_window_whose_process_is_killed_is_read_again(orders: Orders) -> None:
    with capture_logs() as logs:
        async with running(orders) as model:
            orders.give("hold")
            reading = asyncio.create_task(model.transcribe(SPOKEN))
            await orders.noted("window", 1)
            kill(model)
            orders.take_back("hold")
            assert await reading == await expected()
    assert len(orders.notes("window")) == 2
    assert [line["how"] for line in logs if line["event"] == "model_process_died"] == ["SIGKILL"]


async def test_a_window_that_kills_twice_fails_and_the_next_one_is_read(orders: Orders) -> None:
    async with running(orders) as model:
        with pytest.raises(InferenceError, match="twice"):
            await model.transcribe(samples_that_are(DEADLY))
        assert len(orders.notes("start")) >= 2
        assert await model.transcribe(SPOKEN) == await expected()
        with pytest.raises(InferenceError, match="twice"):
            await model.transcribe(samples_that_are(DEADLY))
    # Twice each of the deadly ones.
    assert len(orders.notes("window")) == 5


async def test_windows_beside_one_that_kills_are_not_blamed(orders: Orders) -> None:
    async with running(orders) as model:
        orders.give("hold")
        innocent = [asyncio.create_task(model.transcribe(SPOKEN)) for _ in range(3)]
        await orders.noted("window", 3)
        deadly = asyncio.create_task(model.transcribe(samples_that_are(DEADLY)))
        late = [asyncio.create_task(model.transcribe(SPOKEN)) for _ in range(3)]
        # The crash takes them all along.
        await orders.noted("start", 2)
        orders.take_back("hold")
        assert await asyncio.gather(*innocent, *late) == [await expected()] * 6
        with pytest.raises(InferenceError):
            await deadly


async def test_windows_that_come_after_a_crash_are_kept_away_from_the_suspects(orders: Orders) -> None:
    late = samples_that_are(0.9, seconds=3)
    async with running(orders) as model:
        orders.give("hold_start")
        deadly = asyncio.create_task(model.transcribe(samples_that_are(DEADLY)))
        await orders.noted("start", 2)
        waiting = [asyncio.create_task(model.transcribe(late)) for _ in range(3)]
        orders.give("hold")
        orders.take_back("hold_start")
        await orders.noted("start", 3)
        orders.take_back("hold")
        assert await asyncio.gather(*waiting) == [await expected(late)] * 3
        with pytest.raises(InferenceError):
            await deadly
    # Had the second crash met them, they would have been read twice.
    assert [note["samples"] for note in orders.notes("window")] == [32000, 32000, 48000, 48000, 48000]


async def test_a_stream_that_was_left_is_free_for_the_next_one(orders: Orders) -> None:
    async with running(orders) as model:
        for _ in range(3):
            async with model.open_stream(CONTEXT) as stream:
                assert await stream.decode(SPOKEN) is not None


async def test_while_it_is_started_again_new_work_is_turned_away_and_windows_wait(orders: Orders) -> None:
    async with running(orders) as model:
        orders.give("hold_start")
        kill(model)
        error = await becomes_unready(model)
        assert isinstance(error, ModelNotReadyError)
        assert error.retry_after_s >= 1
        with pytest.raises(ModelNotReadyError, match="started again"):
            async with model.open_stream(CONTEXT):
                pass
        waiting = asyncio.create_task(model.transcribe(SPOKEN))
        await orders.noted("start", 2)
        assert isinstance(await becomes_unready(model), ModelNotReadyError)
        assert not waiting.done()
        orders.take_back("hold_start")
        assert await waiting == await expected()
        assert model.describe().id == "scripted"


async def test_a_crash_ends_a_live_stream_and_the_next_one_begins_anew(orders: Orders) -> None:
    async with running(orders) as model:
        async with model.open_stream(CONTEXT) as stream:
            assert await stream.decode(SPOKEN) is not None
            with pytest.raises(InferenceError, match="stream's state"):
                await stream.decode(samples_that_are(DEADLY))
            with pytest.raises(InferenceError):
                await stream.flush()
        await becomes_ready(model)
        async with model.open_stream(CONTEXT) as stream:
            step = await stream.decode(SPOKEN)
        assert step is not None
        assert (step.finalized[0].start_s, step.decoded_until_s) == (0, 2)


async def test_it_is_started_again_after_pauses_and_it_is_given_up_in_the_end(orders: Orders) -> None:
    with capture_logs() as logs:
        async with running(orders, restarts=4) as model:
            orders.give("die_at_start")
            kill(model)
            await becomes_unready(model)
            waiting = asyncio.create_task(model.transcribe(SPOKEN))
            with pytest.raises(ModelLoadError, match="given up"):
                await waiting
            assert isinstance(await becomes_unready(model), ModelLoadError)
            with pytest.raises(ModelLoadError):
                async with model.open_stream(CONTEXT):
                    pass
    assert len(orders.notes("start")) == 1 + 4
    assert [line["pause_s"] for line in logs if line["event"] == "model_process_restarts"] == [0, 0.01, 0.02, 0.03]
    assert [line["log_level"] for line in logs if line["event"] == "model_given_up"] == ["critical"]


@pytest.mark.parametrize("deaths", [4, pytest.param(500, marks=pytest.mark.soak)])
async def test_deaths_with_answers_in_between_are_not_in_a_row(orders: Orders, deaths: int) -> None:
    async with running(orders, restarts=2) as model:
        for _ in range(deaths):
            kill(model)
            await becomes_unready(model)
            assert await model.transcribe(SPOKEN) == await expected()


async def test_a_model_that_cannot_be_loaded_again_is_given_up_with_its_reason(orders: Orders) -> None:
    async with running(orders) as model:
        orders.give("refuse_start")
        kill(model)
        await becomes_unready(model)
        with pytest.raises(ModelLoadError, match="no such model any more"):
            await model.transcribe(SPOKEN)
        with pytest.raises(ModelLoadError, match="no such model any more"):
            model.describe()
    assert len(orders.notes("start")) == 2


@pytest.mark.parametrize(
    ("order", "reason"), [("refuse_start", "no such model"), ("die_at_start", "died while it was loading: SIGABRT")]
)
async def test_a_start_that_fails_says_why_and_leaves_nothing(orders: Orders, order: str, reason: str) -> None:
    orders.give(order)
    before = psutil.Process().children()
    model = IsolatedModel(partial(CrashingModel, orders.directory))
    with pytest.raises(ModelLoadError, match=reason):
        await model.start()
    assert psutil.Process().children() == before
    with pytest.raises(ModelLoadError, match=reason):
        model.describe()
    await model.aclose()


async def test_a_model_that_cannot_be_imported_is_one_that_cannot_be_loaded() -> None:
    model = IsolatedModel(partial(scripted_model, no_such=1))  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] - what is tested
    with pytest.raises(ModelLoadError):
        await model.start()
    await model.aclose()


async def test_errors_arrive_as_they_were_raised(orders: Orders) -> None:
    async with running(orders) as model:
        with pytest.raises(OverloadedError, match=r"^Too much waits\.$") as overloaded:
            await model.transcribe(samples_that_are(OVERLOADING))
        with pytest.raises(InvalidRequestError) as refused:
            await model.transcribe(samples_that_are(REFUSED))
        async with model.open_stream(CONTEXT) as stream:
            with pytest.raises(OverloadedError):
                await stream.decode(samples_that_are(OVERLOADING))
            with pytest.raises(TooManyStreamsError):
                async with model.open_stream(CONTEXT):
                    pass
            assert await stream.decode(SPOKEN) is not None
    assert (overloaded.value.retry_after_s, overloaded.value.details) == (7.5, {"retry_after_s": 7.5})
    assert (refused.value.message, refused.value.details) == ("That cannot be.", {"param": "beam_size"})


async def test_a_defect_of_the_model_is_logged_and_fails_its_window_alone(
    orders: Orders, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(orders) as model:
        with pytest.raises(InferenceError):
            await model.transcribe(samples_that_are(DEFECTIVE))
        assert await model.transcribe(SPOKEN) == await expected()
    written = capfd.readouterr().err
    assert "unexpected_error_in_child_process" in written
    assert "ZeroDivisionError: a defect" in written
    assert len(orders.notes("start")) == 1


async def test_what_the_process_logs_and_writes_is_beside_our_log(
    orders: Orders, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(orders) as model:
        with structlog.contextvars.bound_contextvars(request_id="r1"):
            await model.transcribe(samples_that_are(TALKATIVE))
        with pytest.raises(InferenceError):
            await model.transcribe(samples_that_are(DEADLY))
    written = capfd.readouterr()
    (heard,) = [line for line in written.err.splitlines() if "heard" in line]
    assert "32000" in heard
    assert "r1" in heard
    assert "a library says something" in written.err
    assert "Fatal Python error: Aborted" in written.err
    assert "a library says something" not in written.out


async def test_hands_on_what_the_caller_says_of_a_window(orders: Orders) -> None:
    async with running(orders) as model:
        await model.transcribe(SPOKEN, after_s=61.5, decoding=Decoding(beam_size=3, phrases=("MLX", "Grüße")))
        await model.transcribe(SPOKEN)
    first, second = orders.notes("window")
    assert (first["after_s"], first["decoding"]) == (61.5, {"beam_size": 3, "phrases": ["MLX", "Grüße"]})
    assert (second["after_s"], second["decoding"]) == (0.0, {"beam_size": 1, "phrases": []})


class Heard(NullMetrics):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.told: list[object] = []

    def model_loaded(self, description: ModelDescription) -> None:
        self.loaded.append(description.id)

    def queue_changed(self, *, depth: int) -> None:
        self.told.append(depth)

    def window_began(self, *, live: bool, waited_s: float) -> None:
        self.told.append((live, waited_s))

    def batch_read(self, *, size: int, audio_s: float, took_s: float) -> None:
        self.told.append((size, audio_s, took_s))

    def streams_changed(self, *, open_now: int) -> None:
        self.told.append(f"{open_now} streams")


async def test_what_the_model_counts_is_counted_here(orders: Orders) -> None:
    heard = Heard()
    async with running(orders, metrics=heard) as model:
        assert heard.loaded == ["scripted"]
        await model.transcribe(SPOKEN)
        assert heard.told == [3, (False, 0.5), (1, 2.0, 0.25)]
        heard.told.clear()
        kill(model)
        await becomes_unready(model)
        assert heard.told == [0, "0 streams"], "what waited in the process does not wait any more"
        await becomes_ready(model)
        assert heard.loaded == ["scripted"] * 2


async def test_a_process_that_hangs_is_killed_and_started_again(orders: Orders) -> None:
    with capture_logs() as logs:
        async with running(orders, ping_every_s=0.2) as model:
            before = model.pid
            kill(model, signal.SIGSTOP)
            assert await model.transcribe(SPOKEN) == await expected()
            assert model.pid != before
    assert "child_process_hangs" in [line["event"] for line in logs]


async def test_closing_that_is_cancelled_does_not_leave_the_process(orders: Orders) -> None:
    async with running(orders) as model:
        assert model.pid is not None
        process = psutil.Process(model.pid)
        kill(model, signal.SIGSTOP)
        closing = asyncio.create_task(model.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        process.send_signal(signal.SIGCONT)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)


async def test_a_cancelled_window_is_cancelled_in_the_process(orders: Orders) -> None:
    async with running(orders) as model:
        orders.give("hold")
        reading = asyncio.create_task(model.transcribe(SPOKEN))
        await orders.noted("window", 1)
        reading.cancel()
        await orders.noted("cancelled", 1)
        assert reading.cancelled()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_that_are_meant_for_the_service_do_not_end_the_process(
    orders: Orders, number: signal.Signals
) -> None:
    async with running(orders) as model:
        before = model.pid
        kill(model, number)
        assert await model.transcribe(SPOKEN) == await expected()
        assert model.pid == before
        assert before is not None
        assert os.getpgid(before) != os.getpgid(0)


async def test_a_slow_process_neither_blocks_the_event_loop_nor_fills_our_memory(orders: Orders) -> None:
    minute = samples_that_are(0.9, seconds=60)
    async with running(orders) as model:
        kill(model, signal.SIGSTOP)
        before = psutil.Process().memory_info().rss
        reading = [asyncio.create_task(model.transcribe(minute)) for _ in range(60)]
        for _ in range(200):
            await asyncio.sleep(0.001)
        grown = psutil.Process().memory_info().rss - before
        assert not any(task.done() for task in reading)
        kill(model, signal.SIGCONT)
        answers = await asyncio.gather(*reading)
    assert answers == [await expected(minute)] * 60
    # The sixty are 230 MB.
    assert grown < 60e6


async def test_at_the_end_the_window_at_work_gets_its_answer(orders: Orders) -> None:
    async with running(orders) as model:
        orders.give("hold")
        orders.give("finish_at_the_end")
        reading = asyncio.create_task(model.transcribe(SPOKEN))
        await orders.noted("window", 1)
        await model.aclose()
        assert await reading == await expected()


async def test_at_the_end_what_has_not_been_read_is_turned_away(orders: Orders) -> None:
    async with running(orders) as model:
        orders.give("hold")
        reading = asyncio.create_task(model.transcribe(SPOKEN))
        await orders.noted("window", 1)
        await model.aclose()
        with pytest.raises(ShuttingDownError):
            await reading
        with pytest.raises(ModelNotReadyError):
            model.describe()
        assert model.pid is None


async def test_leaves_nothing_behind(orders: Orders) -> None:
    async with running(orders):
        pass  # What is opened once and stays, such as the threads that wait.
    process = psutil.Process()
    descriptors, before = process.num_fds(), process.children(recursive=True)
    async with running(orders) as model:
        with pytest.raises(InferenceError):
            await model.transcribe(samples_that_are(DEADLY))
        await model.transcribe(SPOKEN)
        with pytest.raises(InferenceError):
            async with model.open_stream(CONTEXT) as stream:
                await stream.decode(samples_that_are(DEADLY))
        await becomes_ready(model)
        orders.give("hold_start")
        kill(model)
        await orders.noted("start", 5)
    assert process.children(recursive=True) == before
    assert process.num_fds() == descriptors
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_start_that_is_cancelled_leaves_nothing_behind(orders: Orders) -> None:
    orders.give("hold_start")
    before = psutil.Process().children()
    model = IsolatedModel(partial(CrashingModel, orders.directory))
    starting = asyncio.create_task(model.start())
    await orders.noted("start", 1)
    starting.cancel()
    await asyncio.wait((starting,))
    assert psutil.Process().children() == before
    await model.aclose()


async def test_a_process_that_does_not_go_is_killed(orders: Orders) -> None:
    before = psutil.Process().children()
    async with running(orders, patience_s=0.1) as model:
        kill(model, signal.SIGSTOP)
        await model.aclose()
        assert psutil.Process().children() == before


PARENT = """
import asyncio, sys
from functools import partial
from pathlib import Path
from parakeet_service.adapters.isolation.model import IsolatedModel
from tests.integration.crashing_model import CrashingModel, samples_that_are

async def main():
    model = IsolatedModel(partial(CrashingModel, Path(sys.argv[1])))
    await model.start()
    print(model.pid, flush=True)
    await model.transcribe(samples_that_are(0.9))

asyncio.run(main())
"""


async def test_the_process_goes_with_a_parent_that_is_killed(orders: Orders) -> None:
    orders.give("hold")
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(orders.directory)),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert parent.stdout is not None
    # Among the lines of its log.
    while not (line := await parent.stdout.readline()).strip().isdigit():
        pass
    child = psutil.Process(int(line))
    await orders.noted("window", 1)
    parent.kill()
    await parent.wait()
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        await asyncio.sleep(0.01)


@asynccontextmanager
async def embedded() -> AsyncGenerator[tuple[SpeechModel, SpeechModel]]:
    """The embedded model here and in a process."""
    make = partial(
        parakeet_mlx_model,
        model_id="embedded",
        precision="bf16",
        offline=True,
        sample_rate_hz=16000,
        batch_size=4,
        cache_limit_bytes=256 << 20,
        most_waiting=2,
        most_streams=1,
    )
    async with AsyncExitStack() as stack:
        models: list[SpeechModel] = [make(), IsolatedModel(make)]
        for model in models:
            stack.push_async_callback(model.aclose)
            await model.start()
        yield models[0], models[1]


async def test_the_embedded_model_reads_the_same_in_a_process(speech: Samples) -> None:
    async def heard_live(model: SpeechModel) -> list[Hypothesis | None]:
        async with model.open_stream(CONTEXT) as stream:
            steps = [await stream.decode(speech[at : at + 3200]) for at in range(0, 64000, 3200)]
            return [*steps, await stream.flush()]

    async with embedded() as (here, isolated):
        assert isolated.describe() == here.describe()
        assert await isolated.transcribe(speech) == await here.transcribe(speech)
        assert await heard_live(isolated) == await heard_live(here)
        broken = speech.copy()
        broken[100] = np.nan
        with pytest.raises(InferenceError):
            await isolated.transcribe(broken)
        results = await asyncio.gather(*(isolated.transcribe(speech) for _ in range(10)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, OverloadedError)]
        assert len(refused) >= 7
        assert len(refused) + len([result for result in results if isinstance(result, tuple)]) == 10
