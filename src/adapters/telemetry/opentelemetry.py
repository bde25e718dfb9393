"""Traces by OpenTelemetry: the optional extra ``tracing``. Nothing imports this where nobody asked for traces."""

import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, Status, StatusCode, Tracer
from starlette._utils import get_route_path

from ...application.ports.audio_decoder import AudioDecoder, DecodedAudio
from ...application.ports.speech_model import (
    GREEDY,
    Decoding,
    ModelDescription,
    RecognitionStream,
    SpeechModel,
    StreamContext,
)
from ...domain.audio import Samples
from ...domain.errors import FaultError, RetryLaterError
from ...domain.hypothesis import Hypothesis
from ...domain.transcript import Token

_log = structlog.stdlib.get_logger(__name__)
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SENT_AS = "http/protobuf"
_NO_SPANS = frozenset({"/healthz", "/readyz", "/metrics"})


class Tracing:
    """Makes spans of requests, of recordings that are decoded, of windows that are read, and of live streams."""

    def __init__(self, provider: TracerProvider) -> None:
        """Give the spans to `provider`."""
        self._provider = provider
        self._tracer = provider.get_tracer("parakeet_service")

    @classmethod
    def from_environment(cls) -> "Tracing":
        """Send the spans where OpenTelemetry's own variables say, under the name that they give, else under ours."""
        asked = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), _SENT_AS)
        if asked != _SENT_AS:
            _log.warning("only http/protobuf is supported; OTEL_EXPORTER_OTLP_PROTOCOL is ignored", asked=asked)
        provider = TracerProvider(resource=service_resource())
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    @property
    def of_requests(self) -> TelemetryConfig:
        """How FastAPI, which knows OpenTelemetry by itself, is to make spans of requests and sessions; nothing else."""
        return TelemetryConfig(
            tracer_provider=self._provider,
            tracing=True,
            metrics=False,
            logs=False,
            operation_spans=False,
            auto_configure=False,
            exclude=lambda scope: get_route_path(scope) in _NO_SPANS,
        )

    def decoder(self, decoder: AudioDecoder) -> AudioDecoder:
        """The same decoder, traced."""
        return _TracedDecoder(decoder, self._tracer)

    def model(self, model: SpeechModel) -> SpeechModel:
        """The same model, traced."""
        return _TracedModel(model, self._tracer)

    def close(self) -> None:
        """Send what is left; blocks, for half a minute if nobody takes it."""
        self._provider.shutdown()


def service_resource() -> Resource:
    """Who sends the spans: what ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` say, or else our name."""
    return Resource.create({SERVICE_NAME: "parakeet-service"}).merge(OTELResourceDetector().detect())


class _TracedDecoder:
    def __init__(self, decoder: AudioDecoder, tracer: Tracer) -> None:
        self._decoder = decoder
        self._tracer = tracer

    @asynccontextmanager
    async def open(
        self, source: AsyncIterable[bytes], *, sample_rate_hz: int, track: int | None = None, separate: bool = False
    ) -> AsyncGenerator[DecodedAudio]:
        # Not the current span: windows are read meanwhile, and are no part of it.
        span = self._tracer.start_span("decode")
        samples = 0

        async def counted(blocks: AsyncIterator[Samples]) -> AsyncGenerator[Samples]:
            nonlocal samples
            try:
                async for block in blocks:
                    samples += len(block)
                    yield block
            except Exception as error:
                _record(span, error)
                raise

        try:
            async with (
                self._decoder.open(source, sample_rate_hz=sample_rate_hz, track=track, separate=separate) as decoded,
                aclosing(counted(decoded.blocks)) as traced,
            ):
                yield DecodedAudio(traced, decoded.warnings)
        finally:
            span.set_attribute("audio.duration_s", samples / sample_rate_hz)
            span.end()


class _TracedModel:
    def __init__(self, model: SpeechModel, tracer: Tracer) -> None:
        self._model = model
        self._tracer = tracer

    async def start(self) -> None:
        with self._tracer.start_as_current_span("load model"):
            await self._model.start()

    async def aclose(self) -> None:
        await self._model.aclose()

    def describe(self) -> ModelDescription:
        return self._model.describe()

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        attributes = {"audio.duration_s": len(samples) / self.describe().sample_rate_hz, "audio.after_s": after_s}
        with self._tracer.start_as_current_span("transcribe", attributes=attributes):
            return await self._model.transcribe(samples, after_s=after_s, decoding=decoding)

    @asynccontextmanager
    async def open_stream(self, context: StreamContext) -> AsyncGenerator[RecognitionStream]:
        span = self._tracer.start_span("stream")
        stream: _CountedStream | None = None
        try:
            async with self._model.open_stream(context) as opened:
                stream = _CountedStream(opened)
                yield stream
        except (FaultError, RetryLaterError) as error:
            # Others are the listener's, who was in the middle of it.
            _record(span, error)
            raise
        finally:
            if stream is not None:
                span.set_attribute("audio.duration_s", stream.samples / self.describe().sample_rate_hz)
                span.set_attribute("stream.steps", stream.steps)
            span.end()


class _CountedStream:
    """One span tells a whole stream: one for every step would bury all others."""

    def __init__(self, stream: RecognitionStream) -> None:
        self._stream = stream
        self.samples = 0
        self.steps = 0

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        self.samples += len(samples)
        hypothesis = await self._stream.decode(samples, start_s=start_s)
        self.steps += hypothesis is not None
        return hypothesis

    async def flush(self) -> Hypothesis:
        self.steps += 1
        return await self._stream.flush()


def _record(span: Span, error: Exception) -> None:
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
