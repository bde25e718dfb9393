import re

import pytest

from parakeet_service.adapters.telemetry.prometheus import PrometheusMetrics
from parakeet_service.application.ports.metrics import ModelMetrics
from parakeet_service.application.ports.speech_model import ModelDescription
from parakeet_service.entrypoints.http.guards.http_metrics import HttpMetrics


def figures(metrics: PrometheusMetrics) -> dict[str, float]:
    body, media_type = metrics.exposition("")
    assert media_type.startswith("text/plain")
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def a_description() -> ModelDescription:
    return ModelDescription("m", "tdt", ("en",), "bf16", "float32", "cpu", None, 16000, 16.0)


def test_the_model_and_its_queue() -> None:
    prometheus = PrometheusMetrics()
    metrics: ModelMetrics = prometheus
    metrics.model_loaded(a_description())
    metrics.queue_changed(depth=3)
    metrics.window_began(live=True, waited_s=0.25)
    metrics.window_began(live=False, waited_s=2)
    metrics.batch_read(size=2, audio_s=30, took_s=0.5)
    metrics.window_refused()
    metrics.streams_changed(open_now=4)
    seen = figures(prometheus)
    assert (
        seen['parakeet_model_info{architecture="tdt",blas="",compute="float32",device="cpu",id="m",precision="bf16"}']
        == 1
    )
    assert seen["parakeet_queue_depth"] == 3
    assert seen['parakeet_queue_wait_seconds_sum{source="live"}'] == 0.25
    assert seen['parakeet_queue_wait_seconds_sum{source="file"}'] == 2
    assert (seen["parakeet_batch_windows_sum"], seen["parakeet_batch_windows_count"]) == (2, 1)
    assert seen["parakeet_batch_duration_seconds_sum"] == 0.5
    assert seen["parakeet_model_audio_seconds_total"] == 30
    assert seen["parakeet_windows_refused_total"] == 1
    assert seen["parakeet_live_streams"] == 4


def test_what_comes_and_goes() -> None:
    prometheus = PrometheusMetrics()
    traffic: HttpMetrics = prometheus
    traffic.request_answered(method="POST", route="/transcribe", status=200, took_s=3)
    traffic.session_ended(route="/ws", code=1000, took_s=60)
    prometheus.recording_transcribed(audio_s=10, took_s=0.5)
    prometheus.live_session_ended(audio_s=5)
    traffic.uploads_changed(receiving=1, held=3)
    seen = figures(prometheus)
    assert seen['parakeet_http_request_duration_seconds_sum{method="POST",route="/transcribe",status="200"}'] == 3
    assert seen['parakeet_websocket_session_duration_seconds_sum{code="1000",route="/ws"}'] == 60
    assert seen['parakeet_audio_seconds_total{source="file"}'] == 10
    assert seen['parakeet_audio_seconds_total{source="live"}'] == 5
    assert seen["parakeet_real_time_factor_sum"] == 0.05
    assert seen['parakeet_uploads{state="receiving"}'] == 1
    assert seen['parakeet_uploads{state="answering"}'] == 2


def test_an_empty_recording_has_no_speed() -> None:
    prometheus = PrometheusMetrics()
    prometheus.recording_transcribed(audio_s=0, took_s=0.5)
    assert figures(prometheus)["parakeet_real_time_factor_count"] == 0


def test_what_has_not_happened_yet_is_zero() -> None:
    seen = figures(PrometheusMetrics())
    assert seen['parakeet_audio_seconds_total{source="live"}'] == 0
    assert seen['parakeet_queue_wait_seconds_count{source="file"}'] == 0
    assert seen['parakeet_uploads{state="receiving"}'] == 0


def test_methods_that_nobody_knows_are_one() -> None:
    prometheus = PrometheusMetrics()
    for method in ("BREW", "WHEN"):
        prometheus.request_answered(method=method, route="unmatched", status=404, took_s=1)
    name = 'parakeet_http_request_duration_seconds_count{method="other",route="unmatched",status="404"}'
    assert figures(prometheus)[name] == 2


@pytest.mark.parametrize("figure", ["python_info", "python_gc_collections_total"])
def test_the_process_is_described(figure: str) -> None:
    assert any(name.startswith(figure) for name in figures(PrometheusMetrics()))


def test_names_have_units_and_help() -> None:
    body, media_type = PrometheusMetrics().exposition("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    text = body.decode()
    assert text.endswith("# EOF\n")
    ours = set(re.findall(r"# TYPE (parakeet_\w+)", text))
    assert ours == set(re.findall(r"# HELP (parakeet_\w+) [A-Z1].*\.", text))
    assert len(ours) == 25
