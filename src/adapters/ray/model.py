"""The SpeechModel port by a pool of workers."""

from contextlib import AbstractAsyncContextManager
from functools import partial

import structlog

from ...application.ports.metrics import ClusterMetrics, ModelMetrics
from ...application.ports.speech_model import (
    GREEDY,
    Decoding,
    ModelDescription,
    RecognitionStream,
    StreamContext,
)
from ...domain.audio import Samples
from ...domain.errors import ModelLoadError
from ...domain.transcript import Token
from ..inference.engine import EngineFacts
from ..inference.model import EngineModel
from ..inference.windows import Windows
from .cluster import Cluster, RayWorkers
from .pool import WorkerPool
from .workers import Workers

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class ClusterModel:
    """One queue here, and engines in workers elsewhere; live streams and their state are kept here."""

    def __init__(self, pool: WorkerPool, *, most_streams: int, metrics: ModelMetrics) -> None:
        """Take the pool, not started yet."""
        self._pool = pool
        self._failure: ModelLoadError | None = None
        self._windows = Windows(self._ready, most_streams=most_streams, metrics=metrics)

    async def start(self) -> None:
        """See the port; returns when the first worker is ready."""
        try:
            await self._pool.start()
        except ModelLoadError as error:
            self._failure = error
            raise
        description = self.describe()
        workers = (description.workers_wanted or 1) / (description.workers_up or 1)
        self._windows.allow_drafts(round(description.batch_size * workers))
        _log.info("model_loaded", model=description.id, device=description.device, workers=description.workers_up)

    async def aclose(self) -> None:
        """Let what runs finish, cancel what waits, and end the workers."""
        await self._pool.aclose()

    def describe(self) -> ModelDescription:
        """See the port; `ModelNotReadyError` also while no worker is up."""
        return self._ready()[0].description

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        """See the port."""
        return await self._windows.transcribe(samples, after_s=after_s, decoding=decoding)

    def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AbstractAsyncContextManager[RecognitionStream]:
        """See the port."""
        return self._windows.open_stream(context, decoding=decoding)

    def _ready(self) -> tuple[EngineFacts, WorkerPool]:
        if self._failure is not None:
            raise self._failure
        return self._pool.facts(), self._pool


def ray_model(
    make: "partial[EngineModel]",
    cluster: Cluster,
    *,
    sample_rate_hz: int,
    batch_size: int | None,
    most_waiting: int | None,
    most_streams: int,
    metrics: ClusterMetrics,
) -> ClusterModel:
    """The model, not started yet.

    Args:
        make: Makes what a worker runs; must be picklable. Fronts with an equal one share workers.
        cluster: Where the workers are.
        sample_rate_hz: See `WorkerPool`, like those that are not named here.
        batch_size: See there.
        most_waiting: See there.
        most_streams: Live streams at once.
        metrics: See there.
    """
    workers: Workers = RayWorkers(make, cluster)
    pool = WorkerPool(workers, metrics, sample_rate_hz=sample_rate_hz, batch_size=batch_size, most_waiting=most_waiting)
    return ClusterModel(pool, most_streams=most_streams, metrics=metrics)
