"""The detector in processes of its own: the same scores, and its crashes cost nothing but time."""

import asyncio
import os
import signal
import threading
import wave
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest

from parakeet_service.adapters.inference.cores import one_thread_for_numpy
from parakeet_service.adapters.vad.processes import ScoringProcesses
from parakeet_service.adapters.vad.silero import SileroVad
from parakeet_service.assets import DEMO_RECORDING, SILERO_VAD
from parakeet_service.domain.audio import Encoding, PcmReader, Samples
from parakeet_service.domain.errors import InferenceError, ModelLoadError, ShuttingDownError
from parakeet_service.domain.vad import Probabilities
from tests.contracts.voice_detector import RATE_HZ, in_steps


def demo() -> Samples:
    with wave.open(str(DEMO_RECORDING)) as file:
        return PcmReader(Encoding.PCM_S16LE).read(file.readframes(file.getnframes()))


def recordings() -> list[Samples]:
    """Speech, soft speech, speech beside rumble, noise: every way through the detector."""
    speech = demo()
    rumble = 0.3 * np.cos(2 * np.pi * 20 * np.arange(len(speech)) / RATE_HZ)
    noise = np.random.default_rng(3).normal(0, 0.01, len(speech))
    return [
        speech,
        speech * np.float32(1e-3),
        speech * np.float32(1e-2) + rumble.astype(np.float32),
        noise.astype(np.float32),
    ]


@asynccontextmanager
async def detector(count: int, model: Path = SILERO_VAD) -> AsyncGenerator[tuple[SileroVad, ScoringProcesses]]:
    # As the service has it; in more threads products are added up in another order.
    one_thread_for_numpy()
    processes = ScoringProcesses(count, model, prepare=one_thread_for_numpy)
    try:
        await processes.start()
        yield SileroVad(processes=processes), processes
    finally:
        await processes.aclose()


# Blocks as recordings have them; blocks that complete no frame; and pieces as live audio has them in between.
STEPS = (4 * RATE_HZ, RATE_HZ + 77, RATE_HZ // 2)


async def in_uneven_steps(vad: SileroVad, samples: Samples) -> Probabilities:
    stream = vad.open(sample_rate_hz=RATE_HZ)
    edges = [0, 4000, 70_000, 70_001, 80_000, len(samples)]
    return np.concatenate([await stream.score(samples[begin:end]) for begin, end in pairwise(edges)])


async def test_scores_are_those_of_one_process_bit_for_bit() -> None:
    here = SileroVad()
    async with detector(2) as (there, _):
        for samples in recordings():
            for step in STEPS:
                scored = await in_steps(there, samples, step)
                np.testing.assert_array_equal(scored, await in_steps(here, samples, step), strict=True)
            scored = await in_uneven_steps(there, samples)
            np.testing.assert_array_equal(scored, await in_uneven_steps(here, samples), strict=True)


async def test_many_recordings_at_once_have_the_scores_of_each_alone() -> None:
    async with detector(2) as (vad, _):
        alone = [await in_steps(vad, samples, 4 * RATE_HZ) for samples in recordings()]
        together = await asyncio.gather(*(in_steps(vad, samples, 4 * RATE_HZ) for samples in recordings() * 4))
    for scored, expected in zip(together, alone * 4, strict=True):
        np.testing.assert_array_equal(scored, expected)


async def test_recordings_are_shared_among_the_processes_and_cost_this_one_little() -> None:
    samples = np.tile(demo(), 20)
    async with detector(2) as (vad, processes):
        before = [sum(psutil.Process(pid).cpu_times()[:2]) for pid in processes.pids]
        await asyncio.gather(*(in_steps(vad, samples, 4 * RATE_HZ) for _ in range(4)))
        used = [sum(psutil.Process(pid).cpu_times()[:2]) for pid in processes.pids]
    assert len(used) == 2
    assert all(after > begin for after, begin in zip(used, before, strict=True))


async def test_a_process_that_is_killed_is_started_again_and_no_recording_notices() -> None:
    samples = np.tile(demo(), 5)
    expected = await in_steps(SileroVad(), samples, 4 * RATE_HZ)
    async with detector(1) as (vad, processes):
        (killed,) = processes.pids
        scoring = [asyncio.create_task(in_steps(vad, samples, 4 * RATE_HZ)) for _ in range(8)]
        os.kill(killed, signal.SIGKILL)
        for one in scoring:
            np.testing.assert_array_equal(await one, expected)
        (started,) = processes.pids
        assert started != killed
        assert not psutil.pid_exists(killed)


async def test_a_process_that_dies_again_and_again_is_an_error_that_says_so() -> None:
    async with detector(1) as (vad, processes):

        async def kill_all() -> None:
            while True:
                for pid in processes.pids:
                    os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(0)

        async def score_for_ever() -> None:
            while True:
                await in_steps(vad, demo(), 4 * RATE_HZ)

        killing = asyncio.create_task(kill_all())
        with pytest.raises(InferenceError, match="process died, twice"):
            await score_for_ever()
        killing.cancel()
        assert len(await in_steps(vad, demo(), 4 * RATE_HZ)) > 0


async def test_leaves_nothing_behind() -> None:
    async with detector(1) as (vad, _):
        await in_steps(vad, demo(), 4 * RATE_HZ)
    process = psutil.Process()
    descriptors, children = process.num_fds(), process.children(recursive=True)
    async with detector(2) as (vad, processes):
        os.kill(processes.pids[0], signal.SIGKILL)
        await asyncio.gather(*(in_steps(vad, demo(), 4 * RATE_HZ) for _ in range(4)))
    assert process.children(recursive=True) == children
    assert process.num_fds() == descriptors
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_process_is_reaped_though_its_end_was_cancelled_while_no_thread_was_free() -> None:
    busy, loop = threading.Event(), asyncio.get_running_loop()
    async with detector(1) as (_, processes):
        (pid,) = processes.pids
        with ThreadPoolExecutor(1) as threads:
            loop.set_default_executor(threads)
            blocked = loop.run_in_executor(None, busy.wait)
            closing = asyncio.create_task(processes.aclose())
            for _ in range(100):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait((closing,))
            busy.set()
            await blocked
        assert not psutil.pid_exists(pid)


async def test_what_comes_after_the_end_is_scored_here_and_what_waits_is_turned_away() -> None:
    async with detector(1) as (vad, processes):
        os.kill(processes.pids[0], signal.SIGSTOP)
        waiting = asyncio.create_task(in_steps(vad, demo(), 4 * RATE_HZ))
        await asyncio.sleep(0)
    with pytest.raises(ShuttingDownError):
        await waiting
    assert len(await in_steps(vad, demo(), 4 * RATE_HZ)) > 0


async def test_a_model_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    with pytest.raises(ModelLoadError, match="voice activity detector"):
        async with detector(2, tmp_path / "none.onnx"):
            pass
    # The second one to fail has been killed, but who waits for its end was cancelled.
    while not set(psutil.Process().children()) <= before:
        await asyncio.sleep(0.01)


def test_other_event_loops_score_in_their_own_process() -> None:
    expected = asyncio.run(in_steps(SileroVad(), demo(), 4 * RATE_HZ))

    async def main() -> Probabilities:
        async with detector(1) as (vad, _):
            return await asyncio.to_thread(asyncio.run, in_steps(vad, demo(), 4 * RATE_HZ))

    np.testing.assert_array_equal(asyncio.run(main()), expected)


async def test_calls_that_overlap_give_the_same_bit_for_bit_here_and_in_processes() -> None:
    samples = np.concatenate(recordings())
    edges = [*range(0, len(samples), 4 * RATE_HZ), len(samples) - 100, len(samples)]
    async with detector(2) as (there, _):
        for vad in (there, SileroVad()):
            stream, again = (vad.open(sample_rate_hz=RATE_HZ) for _ in range(2))
            together = await asyncio.gather(*(stream.score(samples[begin:end]) for begin, end in pairwise(edges)))
            in_turn = [await again.score(samples[begin:end]) for begin, end in pairwise(edges)]
            np.testing.assert_array_equal(np.concatenate(together), np.concatenate(in_turn))
