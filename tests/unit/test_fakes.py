from tests.contracts.voice_detector import VoiceDetectorContract
from tests.fakes import LoudnessVad


class TestLoudnessVad(VoiceDetectorContract):
    def make(self) -> LoudnessVad:
        return LoudnessVad()
