"""The bodies of the probes."""

from dataclasses import asdict
from importlib.metadata import version
from typing import Literal

from pydantic import BaseModel

from ....application.ports.speech_model import ModelDescription
from ....config.settings import Settings


class HealthBody(BaseModel):
    """The process lives."""

    status: Literal["ok"] = "ok"


class ReadyBody(BaseModel):
    """The model is loaded and warm; in a cluster, how many of the workers are up."""

    status: Literal["ready"] = "ready"
    workers_up: int | None = None
    workers_wanted: int | None = None


class NotReadyBody(BaseModel):
    """Requests would fail now, and why; while the model is downloaded, how far that is."""

    status: Literal["not_ready"] = "not_ready"
    reason: str
    code: str
    state: str | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None


class JobsConfigBody(BaseModel):
    """There are jobs; `owner` is the same for callers that see the same ones, and another for others."""

    owner: str


class ConfigBody(BaseModel):
    """The effective settings, the loaded model, ``null`` while there is none, and jobs, ``null`` where they are off."""

    version: str
    settings: dict[str, object]
    model: dict[str, object] | None
    jobs: JobsConfigBody | None

    @classmethod
    def of(cls, settings: Settings, model: ModelDescription | None, jobs: JobsConfigBody | None) -> "ConfigBody":
        """Everything but secrets: of the API keys, only how many there are."""
        shown: dict[str, object] = settings.model_dump()
        shown["api_keys"] = len(settings.api_keys)
        return cls(
            version=version("parakeet-service"),
            settings=shown,
            model=asdict(model) if model is not None else None,
            jobs=jobs,
        )
