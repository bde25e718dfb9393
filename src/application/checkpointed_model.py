"""Reading a recording for a job: no window twice, and after everybody who waits for an answer."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from ..domain.audio import Samples
from ..domain.errors import OverloadedError
from ..domain.transcript import Token
from .ports.job_observer import JobObserver
from .ports.job_store import JobStore, WindowKey
from .ports.speech_model import GREEDY, Decoding, ModelDescription, RecognitionStream, SpeechModel, StreamContext

_AFTER_S = 3600.0
"""A job's windows wait their turn as those do that lie this far into a recording."""


class CheckpointedModel:
    """The model, for one channel of a job: what it has read is remembered, by the place of the window in the recording.

    `places` bounds the windows of all jobs together that are with the model: they must not fill its queue, from which
    who waits for an answer would be turned away.
    """

    def __init__(
        self,
        model: SpeechModel,
        job_id: str,
        known: Mapping[WindowKey, tuple[Token, ...]],
        *,
        channel: int,
        store: JobStore,
        places: asyncio.Semaphore,
        observer: JobObserver,
    ) -> None:
        """Begin with the windows that are `known`."""
        self._model = model
        self._job_id = job_id
        self._known = known
        self._channel = channel
        self._store = store
        self._places = places
        self._observer = observer

    async def start(self) -> None:
        """It was started."""

    async def aclose(self) -> None:
        """It is closed by whom it belongs to."""

    def describe(self) -> ModelDescription:
        """See the port."""
        return self._model.describe()

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        """See the port; waits where that would raise `OverloadedError`.

        Raises:
            LeaseLostError: The job is no longer this server's.
        """
        key = WindowKey(round(after_s * 1000), len(samples), self._channel)
        known = self._known.get(key)
        if known is not None:
            return known
        async with self._places:
            tokens = await self._read(samples, after_s + _AFTER_S, decoding)
        await self._store.keep_window(self._job_id, key, tokens)
        self._observer.window_read()
        return tokens

    async def _read(self, samples: Samples, after_s: float, decoding: Decoding) -> tuple[Token, ...]:
        while True:
            try:
                return await self._model.transcribe(samples, after_s=after_s, decoding=decoding)
            except OverloadedError as busy:
                await asyncio.sleep(busy.retry_after_s)

    def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AbstractAsyncContextManager[RecognitionStream]:
        """See the port."""
        return self._model.open_stream(context, decoding=decoding)
