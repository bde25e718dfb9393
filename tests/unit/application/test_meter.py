from parakeet_service.application.ports.meter import Meter, Unmetered
from parakeet_service.application.ports.speech_model import ModelDescription


def test_nobody_need_listen() -> None:
    meter: Meter = Unmetered()
    meter.model_loaded(ModelDescription("m", "tdt", ("en",), "bf16", "float32", "cpu", None, 16000, 16.0))
    meter.queue_changed(depth=1)
    meter.window_refused()
    meter.window_began(live=True, waited_s=0)
    meter.batch_read(size=1, audio_s=1, took_s=1)
    meter.streams_changed(open_now=1)
