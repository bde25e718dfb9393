from parakeet_service.application.ports.metrics import ModelMetrics, NullMetrics
from parakeet_service.application.ports.speech_model import ModelDescription


def test_nobody_need_listen() -> None:
    metrics: ModelMetrics = NullMetrics()
    metrics.model_loaded(ModelDescription("m", "tdt", ("en",), "bf16", "float32", "cpu", None, 16000, 16.0))
    metrics.queue_changed(depth=1)
    metrics.window_refused()
    metrics.window_began(live=True, waited_s=0)
    metrics.batch_read(size=1, audio_s=1, took_s=1)
    metrics.streams_changed(open_now=1)
