"""What runs in an actor, without Ray."""

import asyncio
from functools import partial

import pytest

from parakeet_service.adapters.inference.model import EngineModel
from parakeet_service.adapters.ray.cluster import Cluster, RayWorkers, fingerprint
from parakeet_service.adapters.ray.payload import packed
from parakeet_service.adapters.ray.worker import EngineWorker
from parakeet_service.domain.errors import ModelLoadError


async def test_loads_once_for_all_fronts_that_start_it() -> None:
    made: list[str] = []

    def make() -> EngineModel:
        made.append("made")
        raise ModelLoadError("No such model.")

    worker = EngineWorker()
    starts = (worker.start(front, make, ()) for front in ("one", "other"))
    failures = await asyncio.gather(*starts, return_exceptions=True)
    assert [str(failure) for failure in failures] == ["No such model."] * 2
    assert made == ["made"]


async def test_refuses_encryption_that_would_not_cover_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with pytest.raises(ModelLoadError, match="RAY_USE_TLS"):
        await RayWorkers(partial(EngineModel), Cluster()).connect()


async def test_runs_nothing_before_it_was_started() -> None:
    with pytest.raises(RuntimeError, match="once it was started"):
        await EngineWorker().run("front", *packed([]))


def test_fronts_with_equal_recipes_have_workers_of_the_same_name() -> None:
    def name(**changed: int) -> str:
        return fingerprint(partial(EngineModel, sample_rate_hz=16000, **changed))  # type: ignore[arg-type]

    assert name(batch_size=1, most_waiting=2) == name(most_waiting=2, batch_size=1)
    assert name(batch_size=1) != name(batch_size=2)
