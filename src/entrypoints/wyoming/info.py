"""What `describe` is answered with."""

from importlib.metadata import version

from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from ...application.ports.speech_model import SpeechModel
from ...domain.errors import ServiceError

PROGRAM = "parakeet"
"""Home Assistant names the entity after it, and must find it again after each start."""
_BEFORE_IT_IS_LOADED = ("en",)


def info_event(model: SpeechModel, model_id: str, *, finds_end: bool) -> Event:
    """The service as a Wyoming program, whether `model` is loaded or not.

    Args:
        model: Says which languages it writes, once it is loaded; until then English is assumed, for a client that is
            told of no language would not use the service.
        model_id: The name of the model.
        finds_end: Whether the end of speech is found here.
    """
    try:
        languages = model.describe().languages
    except ServiceError:
        languages = _BEFORE_IT_IS_LOADED
    own_version = version("parakeet-service")
    program = AsrProgram(
        name=PROGRAM,
        attribution=Attribution("parakeet-mlx", "https://github.com/senstella/parakeet-mlx"),
        installed=True,
        description="NVIDIA Parakeet on MLX",
        version=own_version,
        models=[
            AsrModel(
                name=model_id,
                attribution=Attribution("NVIDIA", "https://huggingface.co/nvidia"),
                installed=True,
                description=model_id,
                version=own_version,
                languages=list(languages),
            )
        ],
        supports_transcript_streaming=True,
        requires_external_vad=not finds_end,
        # Neither does the model or the detector any good.
        prefers_auto_gain_enabled=False,
        prefers_noise_reduction_enabled=False,
    )
    return Info(asr=[program]).event()
