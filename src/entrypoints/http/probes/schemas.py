"""The bodies of the probes."""

from dataclasses import asdict
from typing import Literal

from pydantic import BaseModel

from ....application.ports.speech_model import ModelDescription
from ....config.settings import Settings


class HealthBody(BaseModel):
    """The process lives."""

    status: Literal["ok"] = "ok"


class ReadyBody(BaseModel):
    """The model is loaded and warm."""

    status: Literal["ready"] = "ready"


class NotReadyBody(BaseModel):
    """Requests would fail now, and why."""

    status: Literal["not_ready"] = "not_ready"
    reason: str
    code: str


class ConfigBody(BaseModel):
    """The effective settings, and the loaded model; ``null`` while there is none."""

    settings: dict[str, object]
    model: dict[str, object] | None

    @classmethod
    def of(cls, settings: Settings, model: ModelDescription | None) -> "ConfigBody":
        """Everything but secrets: of the API keys, only how many there are."""
        shown: dict[str, object] = settings.model_dump()
        shown["api_keys"] = len(settings.api_keys)
        return cls(settings=shown, model=asdict(model) if model is not None else None)
