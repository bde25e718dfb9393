"""What reads the recordings: the service in this process, or one elsewhere."""

import asyncio
import math
from collections.abc import AsyncIterable, Callable
from dataclasses import replace

from ...application.ports.speech_model import Decoding
from ...application.service import Service
from ...application.transcribe_file import Progress
from ...domain.errors import ServiceError
from ...domain.transcript import Transcript


class ServiceTranscriber:
    """The service in this process; a call has no time limit of its own."""

    def __init__(self, service: Service, ready: "asyncio.Task[None] | None" = None) -> None:
        """Read with `service`; a call waits for its start where `ready` is given, and is refused before it otherwise."""
        limits = replace(service.transcribe_file.limits, timeout_s=math.inf)
        self._transcribe = replace(service.transcribe_file, limits=limits)
        self._drain = service.drain
        self._ready = ready

    async def __call__(
        self,
        source: AsyncIterable[bytes],
        *,
        caller: str | None,
        decoding: Decoding,
        track: int | None,
        on_progress: Callable[[Progress], None],
    ) -> Transcript:
        """See `Transcriber`."""
        with self._drain.work():
            if self._ready is not None:
                # Whoever leaves must not stop the start.
                await asyncio.shield(self._ready)
            return await self._transcribe(
                source, caller=caller, decoding=decoding, track=track, on_progress=on_progress
            )

    async def status(self) -> str:
        """See `Transcriber`."""
        try:
            model = self._transcribe.model.describe()
        except ServiceError as error:
            return error.message
        return f"ready: {model.id}"
