from typing import Any, get_args

import pytest

from parakeet_service.bootstrap.container import Container
from parakeet_service.config.settings import Settings
from parakeet_service.domain.errors import ModelNotReadyError


def choices(name: str) -> tuple[str, ...]:
    """The values that a setting may have."""
    return get_args(Settings.model_fields[name].annotation)


def container(**settings: Any) -> Container:
    # The other detector loads ONNX Runtime.
    return Container(settings=Settings(model_id="embedded", vad="none", **settings))


@pytest.mark.parametrize("name", choices("audio_decoder"))
def test_both_use_cases_share_their_parts_under_every_decoder(name: str) -> None:
    built = container(audio_decoder=name)
    file, session = built.transcribe_file(), built.stream_session()
    assert file.decoder is built.decoder()
    assert file.model is session.model is built.model()
    assert file.detector is session.detector is None


def test_every_decoder_is_another_one() -> None:
    built = {name: container(audio_decoder=name).compressed() for name in choices("audio_decoder")}
    assert len({type(decoder) for decoder in built.values()}) == len(built) > 1


@pytest.mark.parametrize("name", choices("isolation"))
def test_builds_one_model_under_every_isolation(name: str) -> None:
    built = container(isolation=name)
    model = built.model()
    assert model is built.model() is built.transcribe_file().model is built.stream_session().model
    with pytest.raises(ModelNotReadyError):
        model.describe()


@pytest.mark.parametrize(("vad", "count", "expected"), [("silero", 0, False), ("silero", 2, True), ("none", 2, False)])
def test_the_detector_has_processes_where_they_are_asked_for(vad: Any, count: int, *, expected: bool) -> None:
    built = Container(settings=Settings(model_id="embedded", vad=vad, vad_processes=count))
    assert (built.detector_processes() is not None) is expected
    assert built.detector_processes() is built.detector_processes()
