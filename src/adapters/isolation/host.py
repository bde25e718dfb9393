"""A model in the child process, and the messages that ask it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, cast

from msgspec import Struct

from ...application.ports.metrics import ClusterMetrics
from ...application.ports.speech_model import (
    Decoding,
    ModelDescription,
    RecognitionStream,
    SpeechModel,
    StreamContext,
)
from ...domain.audio import Samples
from ..processes.child import Handle, Host, Reply


class Transcribe(Struct, tag=True, omit_defaults=True):
    """One window; answered by its tokens. With `alone` its sender has asked for that, and was answered."""

    samples: Samples
    after_s: float
    decoding: Decoding
    alone: bool = False


class BeAlone(Struct, tag=True):
    """Run nothing else until this call is cancelled; answered once nothing runs.

    A window that was under way when a process died is read so, for it may be what killed it. Whose turn has not come when
    another one does that is not suspected again.
    """


class OpenStream(Struct, tag=True):
    """A live stream, open until this call is cancelled, and known by its number."""

    context: StreamContext
    decoding: Decoding


class Decode(Struct, tag=True):
    """The next samples of a stream; answered by a hypothesis, or none."""

    stream: int
    samples: Samples
    start_s: float | None


class Flush(Struct, tag=True):
    """The last samples of a stream, and what is left of it; answered by a hypothesis."""

    stream: int
    samples: Samples


class Describe(Struct, tag=True):
    """Say what is loaded now; answered by a description, or by why there is none."""


class Metric(Struct):
    """A call of a method of `ClusterMetrics`."""

    name: Literal[
        "queue_changed",
        "window_refused",
        "window_began",
        "batch_read",
        "streams_changed",
        "workers_changed",
        "worker_lost",
        "worker_answered",
    ]
    values: dict[str, bool | int | float]


_Request: TypeAlias = Transcribe | BeAlone | OpenStream | Decode | Flush | Describe


class MakeModel(Protocol):
    """Makes the model, in the child; must be picklable, such as a `functools.partial` of a class."""

    def __call__(self, *, metrics: ClusterMetrics) -> SpeechModel:
        """A new model, not started, that counts with `metrics`."""
        ...


@asynccontextmanager
async def model_host(make: MakeModel, emit: Callable[[Metric], None]) -> AsyncGenerator[Host]:
    """Hold a model, and tell the parent what it counts."""
    model = make(metrics=cast("ClusterMetrics", _SentMetrics(emit)))
    floor = _Floor()

    def connect() -> Handle:
        streams: dict[int, RecognitionStream] = {}

        async def compute(request: Transcribe | Decode | Flush) -> object:
            match request:
                case Transcribe():
                    return await model.transcribe(request.samples, after_s=request.after_s, decoding=request.decoding)
                case Decode():
                    return await streams[request.stream].decode(request.samples, start_s=request.start_s)
                case Flush(samples=samples):
                    stream = streams[request.stream]
                    if not len(samples):
                        return await stream.flush()
                    # The first gives its samples, and what it would wait for is taken over by the second.
                    return (await asyncio.gather(stream.decode(samples), stream.flush()))[1]

        async def handle(number: int, request: _Request, reply: Reply) -> None:
            match request:
                case Describe():
                    await reply(model.describe())
                case Transcribe(alone=True):
                    await reply(await compute(request))
                case Transcribe() | Decode() | Flush():
                    await floor.enter()
                    try:
                        result = await compute(request)
                    finally:
                        floor.leave()
                    await reply(result)
                case BeAlone():
                    await floor.enter(alone=True)
                    try:
                        await reply(None)
                        await asyncio.Event().wait()
                    finally:
                        floor.leave(alone=True)
                case OpenStream():
                    async with model.open_stream(request.context, decoding=request.decoding) as streams[number]:
                        try:
                            await reply(None)
                            await asyncio.Event().wait()
                        finally:
                            del streams[number]

        return handle

    await model.start()
    yield Host(_Request, model.describe(), connect)
    await model.aclose()


class _Floor:
    """Lets many run together, or one alone; who wants to be alone goes first.

    Not context managers, which take longer than all else that is done for a step of a live stream.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()  # set, and replaced, when somebody who waits may go
        self._running = 0
        self._loners = 0

    async def enter(self, *, alone: bool = False) -> None:
        """Wait for a turn, and take it; unless this raises, `leave` must follow."""
        self._loners += alone
        try:
            while self._running if alone else self._loners:
                await self._changed.wait()
        except asyncio.CancelledError:
            self._loners -= alone
            self._notify()
            raise
        self._running += 1

    def leave(self, *, alone: bool = False) -> None:
        """Give the turn back."""
        self._running -= 1
        self._loners -= alone
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class _SentMetrics:
    """The port ClusterMetrics by messages to the parent."""

    def __init__(self, emit: Callable[[Metric], None]) -> None:
        self._emit = emit

    def model_loaded(self, description: ModelDescription) -> None:
        """The parent knows by itself."""

    def __getattr__(self, name: Any) -> Callable[..., None]:
        return partial(self._send, name)

    def _send(self, name: Any, **values: float) -> None:
        self._emit(Metric(name, values))
