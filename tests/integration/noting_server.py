"""The command, which notes each window of a job in a file before the model has it: `kill -9` takes no note back."""

import asyncio
import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from unittest.mock import patch

from parakeet_service.__main__ import main
from parakeet_service.application import job_runner
from parakeet_service.application.checkpointed_model import CheckpointedModel
from parakeet_service.application.ports.job_observer import JobObserver
from parakeet_service.application.ports.job_store import JobStore, WindowKey
from parakeet_service.application.ports.speech_model import (
    GREEDY,
    Decoding,
    ModelDescription,
    RecognitionStream,
    SpeechModel,
    StreamContext,
)
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.transcript import Token


class NotingModel:
    """A `SpeechModel` for one job that notes what it is given."""

    def __init__(self, model: SpeechModel, job_id: str, notes: int) -> None:
        self._model = model
        self._job_id = job_id
        self._notes = notes

    async def start(self) -> None:
        await self._model.start()

    async def aclose(self) -> None:
        await self._model.aclose()

    def describe(self) -> ModelDescription:
        return self._model.describe()

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        os.write(self._notes, f"{self._job_id}\n".encode())
        return await self._model.transcribe(samples, after_s=after_s, decoding=decoding)

    def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AbstractAsyncContextManager[RecognitionStream]:
        return self._model.open_stream(context, decoding=decoding)


def serve() -> None:
    notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def checkpointed(
        model: SpeechModel,
        job_id: str,
        known: Mapping[WindowKey, tuple[Token, ...]],
        *,
        channel: int,
        store: JobStore,
        places: asyncio.Semaphore,
        observer: JobObserver,
    ) -> SpeechModel:
        noting = NotingModel(model, job_id, notes)
        return CheckpointedModel(noting, job_id, known, channel=channel, store=store, places=places, observer=observer)

    with patch.object(job_runner, "CheckpointedModel", checkpointed):
        main()


if __name__ == "__main__":
    serve()
