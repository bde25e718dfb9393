"""The names of the loaded model on the routes that speak OpenAI's language."""

from ....application.ports.speech_model import ModelDescription
from ..guards.errors import UnknownModelError
from .schemas import OpenAIModelBody

ALIASES = frozenset(
    {
        "whisper-1",
        "gpt-4o-transcribe",
        "gpt-4o-mini-transcribe",
        "gpt-4o-mini-transcribe-2025-12-15",
        "gpt-transcribe",
        # Those of realtime sessions; Pipecat asks for the first one by default.
        "gpt-realtime-whisper",
        "gpt-live-transcribe",
        "parakeet",
    }
)
"""Names that stand for the loaded model: in many clients the model's name cannot be changed."""


def names_of(description: ModelDescription) -> frozenset[str]:
    """Every name under which the model is served."""
    last_part = description.id.rstrip("/").rpartition("/")[2]
    return ALIASES | {description.id, last_part}


def check_model(name: str, description: ModelDescription) -> None:
    """Pass if `name` means the loaded model.

    Raises:
        UnknownModelError: It means another one.
    """
    if name not in names_of(description):
        raise UnknownModelError(f"The model {name!r} is not available; {description.id!r} is.", param="model")


def model_body(description: ModelDescription, *, since: int) -> OpenAIModelBody:
    """A description of the model, served since the start of the service, `since`, a Unix time."""
    aliases = sorted(names_of(description) - {description.id})
    return OpenAIModelBody(id=description.id, created=since, owned_by="parakeet-service", aliases=aliases)
