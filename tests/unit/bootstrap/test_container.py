from typing import Literal, get_args

import pytest

from parakeet_service.bootstrap.container import Container
from parakeet_service.config.settings import Settings
from parakeet_service.domain.errors import ModelNotReadyError

Decoder = Literal["ffmpeg", "pydub"]
Isolation = Literal["none", "process"]
Vad = Literal["silero", "none"]


def test_knows_every_decoder_that_can_be_set() -> None:
    assert get_args(Settings.model_fields["audio_decoder"].annotation) == get_args(Decoder)


@pytest.mark.parametrize("name", get_args(Decoder))
def test_builds_everything_under_every_decoder(name: Decoder) -> None:
    container = Container(settings=Settings(audio_decoder=name, model_id="embedded"))
    file, session = container.transcribe_file(), container.stream_session()
    assert file.decoder is container.decoder()
    assert file.model is session.model is container.model()
    assert file.detector is container.detector() is not None


def test_knows_every_detector_that_can_be_set() -> None:
    assert get_args(Settings.model_fields["vad"].annotation) == get_args(Vad)


def test_builds_without_a_detector() -> None:
    assert Container(settings=Settings(vad="none", model_id="embedded")).transcribe_file().detector is None


def test_knows_every_isolation_that_can_be_set() -> None:
    assert get_args(Settings.model_fields["isolation"].annotation) == get_args(Isolation)


@pytest.mark.parametrize("name", get_args(Isolation))
def test_builds_one_model_under_every_isolation(name: Isolation) -> None:
    container = Container(settings=Settings(isolation=name, model_id="embedded"))
    model = container.model()
    assert model is container.model() is container.transcribe_file().model is container.stream_session().model
    with pytest.raises(ModelNotReadyError):
        model.describe()
