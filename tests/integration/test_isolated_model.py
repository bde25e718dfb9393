from functools import partial

from parakeet_service.adapters.isolated_model.model import IsolatedModel
from parakeet_service.adapters.scripted_model import ScriptedModel
from parakeet_service.application.ports.speech_model import SpeechModel
from tests.contracts.speech_model import SpeechModelContract


class TestIsolatedModel(SpeechModelContract):
    def make(self, *, max_streams: int = 4) -> SpeechModel:
        return IsolatedModel(partial(ScriptedModel, max_streams=max_streams))
