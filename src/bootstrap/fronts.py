"""Further processes that speak HTTP: on the same sockets, before the same model, under the same settings."""

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias

import structlog
from fastapi import FastAPI
from msgspec import Struct

from ..adapters.processes.child import Host, Reply
from ..adapters.processes.connection import ProcessEndedError
from ..adapters.processes.messages import decoder_of
from ..adapters.processes.process import ChildProcess, Recipe
from ..adapters.telemetry.prometheus import forget_process
from ..application.drain import Drain
from ..application.run_unless import first_of, run_unless
from ..application.service import Service
from ..config.settings import Settings
from ..domain.errors import ServiceError
from ..entrypoints.http.server import serve_beside
from ..entrypoints.http.sharing import Loads, Share
from .container import prepare_child

_log = structlog.stdlib.get_logger(__name__)

_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Before a process that has died is started again."""
_STEADY_S = 60.0
"""One that lived so long is started again at once."""
_LEAVING_S = 10.0
"""What a process gets to end once nothing runs in it any more."""

BuildFront: TypeAlias = Callable[[Settings, Path, int, Callable[[], None]], tuple[FastAPI, Share, Drain]]
"""Makes the application of such a process, with its share of the sockets.

It is given the common directory, the number of the process, and what to call if it can never be ready.
"""


class _Leave(Struct):
    """Finish what runs, and serve no more; answered when that is done. In a `hurry` nothing is waited for."""

    hurry: bool


_answers = decoder_of(None)


class Fronts:
    """The processes beside this one. It is a `Server`: they serve while its context is entered."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[socket.socket],
        build: BuildFront,
        common: Path,
        loads: Loads,
    ) -> None:
        """Remember what to start; `build` must be picklable."""
        descriptors = tuple(listener.fileno() for listener in listeners)
        # This process is number 0.
        self._recipes = {
            number: Recipe(
                partial(_front, settings, descriptors, build, common, number),
                prepare_child(settings),
                keep=descriptors,
            )
            for number in range(1, settings.http_processes)
        }
        self._common = common
        self._loads = loads

    @asynccontextmanager
    async def __call__(self, service: Service) -> AsyncGenerator[None]:
        """Have them serve while in this context; they begin to finish when `service` does."""
        keeping = [asyncio.create_task(self._keep(number, service.drain)) for number in self._recipes]
        try:
            yield
        finally:
            # Without a drain, such as when the model cannot be loaded, nobody waits for anything.
            if not service.drain.begun:
                for task in keeping:
                    task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def _keep(self, number: int, drain: Drain) -> None:
        """Keep one process running until `drain` begins; then let it finish."""
        clock = asyncio.get_running_loop().time
        deaths = 0
        while not drain.begun:
            began = clock()
            try:
                await self._run(number, drain)
            except (ProcessEndedError, ServiceError) as error:
                _log.error("http_process_stillborn", reason=str(error))
            deaths = deaths + 1 if clock() - began < _STEADY_S else 1
            await first_of(asyncio.sleep(_PAUSES_S[min(deaths, len(_PAUSES_S)) - 1]), drain.wait_begun())

    async def _run(self, number: int, drain: Drain) -> None:
        """Run one process until it ends, or has finished because of `drain`.

        Raises:
            ProcessEndedError: It could not be started.
            ServiceError: It cannot serve.
        """
        left = asyncio.Event()
        # What it has to finish is work of ours: the grace time is over when it is for all.
        with drain.work():
            process = await ChildProcess.start(self._recipes[number], on_event=lambda _: left.set(), on_end=left.set)
            _log.info("http_process_ready", pid=process.pid)
            try:
                await first_of(left.wait(), drain.wait_begun())
                if drain.begun and not left.is_set():
                    await _finish(process, drain)
            finally:
                how = await process.end(patience_s=_LEAVING_S)
                self._loads.tell(number, None)
                forget_process(process.pid, self._common)
        if not drain.begun:
            _log.error("http_process_died", pid=process.pid, how=how)


async def _finish(process: ChildProcess, drain: Drain) -> None:
    """Have it finish what runs, and once the grace time is over, what is left."""
    with suppress(ProcessEndedError, TimeoutError):
        await run_unless(drain.wait_over(), process.call(_Leave(hurry=False), _answers))
        async with asyncio.timeout(_LEAVING_S):
            await process.call(_Leave(hurry=True), _answers)


@asynccontextmanager
async def _front(
    settings: Settings,
    descriptors: Sequence[int],
    build: BuildFront,
    common: Path,
    number: int,
    emit: Callable[[object], None],
) -> AsyncGenerator[Host]:
    """Serve, in the child, while in this context."""
    started = asyncio.Event()
    drain: Drain | None = None

    def build_app(give_up: Callable[[], None]) -> tuple[FastAPI, Share]:
        nonlocal drain
        app, share, drain = build(settings, common, number, give_up)
        return app, share

    def begin_to_leave() -> None:
        if drain is not None and not drain.begun:
            # The way that leads there from outside, too.
            signal.raise_signal(signal.SIGTERM)

    serving = asyncio.create_task(
        serve_beside(
            [socket.socket(fileno=descriptor) for descriptor in descriptors],
            longest_idle_s=settings.stream_idle,
            build_app=build_app,
            on_started=started.set,
        )
    )
    serving.add_done_callback(lambda _: emit(None))
    await first_of(started.wait(), asyncio.wait((serving,)))
    if serving.done():
        serving.result()

    async def handle(_number: int, request: _Leave, reply: Reply) -> None:
        begin_to_leave()
        if request.hurry and drain is not None:
            drain.hurry()
        await asyncio.wait((serving,))
        await reply(None)

    yield Host(_Leave, None, lambda: handle)
    begin_to_leave()
    await asyncio.wait((serving,))
