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
        # Those of realtime sessions; Pipecat names the first one unless it is told another.
        "gpt-realtime-whisper",
        "gpt-live-transcribe",
        "parakeet",
    }
)
"""Names that mean the loaded model, whatever it is: many clients cannot be told another one."""


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
    """What is told of the model, which has been served for as long as the service runs; `since` is a Unix time."""
    aliases = sorted(names_of(description) - {description.id})
    return OpenAIModelBody(id=description.id, created=since, owned_by="parakeet-service", aliases=aliases)
