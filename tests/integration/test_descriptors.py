"""Work that is cancelled, wherever it waits, closes its own descriptors, once, and nobody else's."""

import asyncio
import gc
import socket
from collections.abc import Callable, Coroutine, Generator
from contextlib import ExitStack
from functools import partial
from types import coroutine
from typing import Any

import psutil
import pytest
import uvloop

from parakeet_service.adapters.decoders.ffmpeg import FfmpegDecoder, find_ffmpeg
from parakeet_service.adapters.isolation.model import IsolatedModel
from tests.contracts.audio_decoder import decode
from tests.integration.crashing_model import scripted_model
from tests.integration.recordings import recording

Work = Callable[[], Coroutine[Any, Any, object]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Generator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@coroutine
def cancelling(work: Coroutine[Any, Any, object], *, at_wait: int, at_once: bool) -> Generator[Any, Any, object]:
    """Do the work in this task, and cancel it when it waits for the `at_wait`-th time: at once, or a round later."""
    task = asyncio.current_task()
    assert task is not None
    resume, waits = partial[object](work.send, None), 0
    while True:
        try:
            awaited = resume()
        except StopIteration as end:
            return end.value
        waits += 1
        if waits == at_wait and at_once:
            task.cancel()
        elif waits == at_wait:
            asyncio.get_running_loop().call_soon(task.cancel)
        try:
            resume = partial(work.send, (yield awaited))
        except BaseException as error:  # noqa: BLE001 - the work's, whatever it is
            resume = partial(work.throw, error)


async def is_cancelled(work: Work, *, at_wait: int, at_once: bool) -> bool:
    """Whether the work was cancelled, and not done before it had waited so often."""

    async def run() -> object:
        return await cancelling(work(), at_wait=at_wait, at_once=at_once)

    task = asyncio.create_task(run())
    await asyncio.wait({task})
    # What is left to do is done behind the caller's back.
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.001)
    if not task.cancelled():
        task.result()
        return False
    with ExitStack() as innocent:
        # They get the numbers of what has just been closed.
        pairs = [socket.socketpair() for _ in range(8)]
        for end in sum(pairs, ()):
            innocent.enter_context(end)
            end.setblocking(False)
        del task
        gc.collect()
        for here, there in pairs:
            here.sendall(b"?")
            assert there.recv(1) == b"?"
    return True


async def cancel_at_every_wait(work: Work, *, at_once: bool) -> int:
    """Do the work again and again, each time cancelled one wait later, until it is done before; gives that number."""
    await work()
    open_before = psutil.Process().num_fds()
    at_wait = 1
    while await is_cancelled(work, at_wait=at_wait, at_once=at_once):
        assert psutil.Process().num_fds() == open_before
        at_wait += 1
    return at_wait


@pytest.mark.parametrize("at_once", [True, False])
def test_a_cancelled_decoder_closes_nobody_elses_descriptors(runner: asyncio.Runner, *, at_once: bool) -> None:
    data = recording("mp3")

    async def work() -> None:
        assert (await decode(FfmpegDecoder(find_ffmpeg()), data)).size

    assert runner.run(cancel_at_every_wait(work, at_once=at_once)) > 3


@pytest.mark.parametrize("at_once", [True, False])
def test_a_cancelled_start_of_the_model_closes_nobody_elses_descriptors(
    runner: asyncio.Runner, *, at_once: bool
) -> None:
    async def work() -> None:
        model = IsolatedModel(scripted_model)
        try:
            await model.start()
        finally:
            await asyncio.shield(asyncio.create_task(model.aclose()))

    assert runner.run(cancel_at_every_wait(work, at_once=at_once)) > 2
