"""The service on an engine that reads nothing: what is left is what the host has to do for each second of audio.

Run as ``python -m benchmarks.null_service``, under the service's settings.
"""

import sys
from collections.abc import Generator, Sequence
from functools import partial

from dependency_injector import providers
from fastapi import FastAPI

from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.inference.model import EngineModel
from parakeet_service.adapters.telemetry.prometheus import PrometheusMetrics
from parakeet_service.application.ports.speech_model import ModelDescription
from parakeet_service.bootstrap.container import Container
from parakeet_service.config.logs import configure_logging
from parakeet_service.config.settings import Settings
from parakeet_service.domain.errors import InferenceError
from parakeet_service.domain.transcript import Token
from parakeet_service.entrypoints.http.app import create_app
from parakeet_service.entrypoints.http.server import serve

_TOKENS = (" pl", "ease", " n", "ote", " that", " no", "body", " is", " list", "ening")
_TOKEN_S = 0.2
"""About as many as a model writes for fast speech."""
_MAX_WINDOW_S = 120.0


class NullEngine:
    """An `Engine` that gives tokens at an even pace, whatever it is given."""

    can_stream = False
    frame_s = 0.08

    def __init__(self, sample_rate_hz: int) -> None:
        """Take audio of that rate."""
        self._rate_hz = sample_rate_hz
        # Made once: what an engine does is not to be measured.
        self._tokens = tuple(
            Token(at, _TOKENS[at % len(_TOKENS)], at * _TOKEN_S, (at + 1) * _TOKEN_S, confidence=0.99)
            for at in range(int(_MAX_WINDOW_S / _TOKEN_S))
        )
        self.description = ModelDescription(
            id="null",
            architecture="none",
            languages=("en",),
            precision="none",
            compute="none",
            device="none",
            blas=None,
            sample_rate_hz=sample_rate_hz,
            max_window_s=_MAX_WINDOW_S,
        )

    def company(self, jobs: Sequence[EncoderJob], most: int) -> Sequence[int]:
        """As many as may."""
        return range(min(len(jobs), most))

    def seconds(self, job: EncoderJob) -> float:
        """How much audio it is."""
        return len(job.samples) / self._rate_hz

    def run(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, list[DecodeResult | InferenceError]]:
        """Give each job's tokens, in one step."""
        yield
        return [self._result(job) for job in jobs]

    def prepare(self, live: EncoderJob | None, *, longest_s: float, most: int) -> Sequence[Sequence[EncoderJob]]:
        """There is nothing to compile."""
        del live, longest_s, most
        return ()

    def _result(self, job: EncoderJob) -> DecodeResult:
        tokens = self._tokens[: int(self.seconds(job) / _TOKEN_S)]
        return DecodeResult(finalized=tokens, draft=(), finalized_until=0, decoded_until=0, state=None)


def container_of(settings: Settings) -> Container:
    """The service's own objects, on the null engine."""
    metrics = PrometheusMetrics()
    model = EngineModel(
        partial(NullEngine, settings.target_sr),
        sample_rate_hz=settings.target_sr,
        batch_size=settings.batch_size,
        most_waiting=settings.max_queue,
        most_streams=settings.max_streams,
        metrics=metrics,
    )
    return Container(settings=settings, metrics=providers.Object(metrics), model=providers.Object(model))


def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings()
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    container = container_of(settings)

    def build_app(*_: object) -> FastAPI:
        return create_app(
            settings=settings,
            service=container.service(),
            metrics=container.metrics(),
            exposition=container.metrics().exposition,
            on_fatal=sys.exit,
        )

    serve(
        host=settings.host,
        port=settings.port,
        has_api_keys=bool(settings.api_keys),
        longest_idle_s=settings.stream_idle,
        build_app=build_app,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )


if __name__ == "__main__":
    main()
