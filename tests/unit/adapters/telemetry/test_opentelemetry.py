import os
from collections.abc import Sequence

import pytest
import structlog
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode, format_trace_id
from structlog.testing import capture_logs

from parakeet_service.adapters.telemetry.opentelemetry import Tracing, service_resource
from parakeet_service.application.ports.audio_decoder import AudioDecoder
from parakeet_service.application.ports.speech_model import SpeechModel
from parakeet_service.bootstrap.app import build_app
from parakeet_service.domain.errors import InferenceError
from tests.contracts.audio_decoder import AudioDecoderContract
from tests.contracts.speech_model import SpeechModelContract
from tests.fakes import NOT_AUDIO, FailingModel
from tests.scripted_model import ScriptedModel
from tests.unit.adapters.decoders.test_wave import TestWaveDecoder
from tests.unit.entrypoints.world import World, a_settings, pcm


class TracedWorld:
    """The application with every part traced, into memory."""

    def __init__(self, model: ScriptedModel | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.world = World(model=model, tracing=Tracing(provider_of(self.exporter)))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def all_named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def named(self, name: str) -> ReadableSpan:
        (span,) = self.all_named(name)
        return span


def provider_of(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


async def traced(model: ScriptedModel | None = None) -> TracedWorld:
    traced = TracedWorld(model)
    await traced.world.model.start()
    return traced


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def context_of(span: ReadableSpan) -> SpanContext:
    context: SpanContext | None = span.get_span_context()
    assert context is not None
    return context


class TestTracedModel(SpeechModelContract):
    def make(self, *, max_streams: int = 4) -> SpeechModel:
        return Tracing(TracerProvider()).model(ScriptedModel(max_streams=max_streams))


class TestTracedDecoder(AudioDecoderContract):
    def make(self) -> AudioDecoder:
        return Tracing(TracerProvider()).decoder(TestWaveDecoder().make())


async def test_a_request_is_a_trace_of_its_decoding_and_its_windows() -> None:
    traces = await traced()
    async with traces.world.client() as client:
        await client.post("/transcribe", files={"file": pcm(90)})
    request, decode, windows = traces.named("POST /transcribe"), traces.named("decode"), traces.all_named("transcribe")
    assert {span.parent and span.parent.span_id for span in (decode, *windows)} == {context_of(request).span_id}
    assert attributes(decode)["audio.duration_s"] == 90
    assert len(windows) == 2
    assert attributes(windows[0])["audio.after_s"] == 0
    assert float(str(attributes(windows[1])["audio.after_s"])) > 40
    # Nothing for each piece of the upload.
    assert len(traces.spans) == 4


async def test_the_log_line_finds_the_trace() -> None:
    traces = await traced()
    async with traces.world.client() as client:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            await client.post("/transcribe", files={"file": pcm(1)})
    trace_id = format_trace_id(context_of(traces.named("POST /transcribe")).trace_id)
    assert [line["trace_id"] for line in lines if line["event"] == "request"] == [trace_id]


async def test_goes_on_with_the_trace_of_the_caller() -> None:
    traces = await traced()
    async with traces.world.client(traceparent=f"00-{'a' * 32}-{'b' * 16}-01") as client:
        await client.get("/v1/models")
    assert format_trace_id(context_of(traces.named("GET /v1/models")).trace_id) == "a" * 32


async def test_probes_leave_no_trace() -> None:
    traces = await traced()
    async with traces.world.client() as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            await client.get(path)
    assert traces.spans == ()


async def test_who_failed_is_seen() -> None:
    traces = await traced(FailingModel(InferenceError("It failed.")))
    async with traces.world.client() as client:
        await client.post("/transcribe", files={"file": pcm(1)})
        await client.post("/transcribe", files={"file": NOT_AUDIO})
    assert traces.named("transcribe").status.status_code is StatusCode.ERROR
    assert [span.status.status_code for span in traces.all_named("decode")] == [StatusCode.UNSET, StatusCode.ERROR]


async def test_a_live_session_is_one_span_of_its_stream() -> None:
    traces = await traced()
    async with traces.world.live() as client:
        await client.ready()
        for _ in range(15):
            await client.say(pcm(0.1))
        await client.say({"type": "close"})
        await client.hear_until_close()
    stream = traces.named("stream")
    assert attributes(stream)["audio.duration_s"] == 1.5
    assert int(str(attributes(stream)["stream.steps"])) >= 2
    assert len(traces.spans) == 2


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def is_traced(app: FastAPI) -> bool:
    config: dict[str, object] = getattr(app, "_telemetry")  # noqa: B009
    return config["tracing"] is True


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, 1),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, 1),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, 0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}, 0),
    ],
)
def test_traces_are_made_where_opentelemetrys_variables_ask_for_them(
    variables: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_traced(build_app(a_settings(model_id="embedded"))) == expected


@pytest.mark.parametrize(("given", "name"), [({}, "parakeet-service"), ({"OTEL_SERVICE_NAME": "stt"}, "stt")])
def test_the_environment_may_give_the_service_a_name(
    given: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    assert service_resource().attributes["service.name"] == name


def test_a_protocol_that_is_not_spoken_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with capture_logs() as lines:
        Tracing.from_environment().close()
    assert [(line["log_level"], line["asked"]) for line in lines] == [("warning", "grpc")]
