"""The service on an engine that reads nothing: what is left is what the host has to do for each second of audio.

Run as ``python -m benchmarks.null_service``, under the service's settings. With ``NULL_ENGINE=h100`` its engine takes as
long, and makes such batches, as the 0.6 B model on an H100, but computes nothing meanwhile; with ``NULL_ENGINE=4`` four
times as long. With ``CLUSTER=ray`` the workers have such engines.
"""

import os
import sys
import time
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

from dependency_injector import providers
from fastapi import FastAPI

from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.inference.model import EngineModel
from parakeet_service.adapters.ray.model import ray_model
from parakeet_service.adapters.telemetry.prometheus import PrometheusMetrics
from parakeet_service.application.ports.speech_model import ModelDescription
from parakeet_service.bootstrap.container import Container, cluster
from parakeet_service.bootstrap.garbage import collect_seldom
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
_NO_BOUND = 1 << 30
"""The queue before the workers has one."""
_LEAST_S, _FIXED_S, _FRAME_COST_S = 0.021, 0.015, 1.53e-6
_MOST_ROWS = 64


class NullEngine:
    """An `Engine` that gives tokens at an even pace, whatever it is given."""

    can_stream = True
    frame_s = 0.08

    def __init__(self, sample_rate_hz: int, pace: "H100 | None" = None) -> None:
        """Take audio of that rate, in the time that `pace` says, by default in none."""
        self._rate_hz = sample_rate_hz
        self._pace = pace
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
            batch_size=64,
        )

    def company(self, jobs: Sequence[EncoderJob], most: int) -> Sequence[int]:
        """As many as may, or as the device would take."""
        return range(min(len(jobs), most)) if self._pace is None else self._pace.company(jobs, most=most)

    def seconds(self, job: EncoderJob) -> float:
        """How much audio it is."""
        return len(job.samples) / self._rate_hz

    def run(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, list[DecodeResult | InferenceError]]:
        """Give each job's tokens, in one step."""
        if self._pace is not None:
            # Python's lock is free meanwhile, as while a GPU computes.
            time.sleep(self._pace.seconds(jobs))
        yield
        return [self._result(job) for job in jobs]

    def prepare(self, live: EncoderJob | None, *, longest_s: float, most: int) -> Sequence[Sequence[EncoderJob]]:
        """There is nothing to compile."""
        del live, longest_s, most
        return ()

    def _result(self, job: EncoderJob) -> DecodeResult:
        if job.finalized_until is None:
            return DecodeResult(self._tokens_of(job, 0, self._frames(job)), (), 0, 0, state=None)
        finalized_until, end = min(job.finalized_until, self._frames(job)), min(job.end, self._frames(job))
        return DecodeResult(
            finalized=self._tokens_of(job, job.begin, finalized_until),
            draft=self._tokens_of(job, finalized_until, end),
            finalized_until=finalized_until,
            decoded_until=end,
            state=None,
        )

    def _frames(self, job: EncoderJob) -> int:
        return int(self.seconds(job) / self.frame_s)

    def _tokens_of(self, job: EncoderJob, begin: int, end: int) -> tuple[Token, ...]:
        """Those that begin in these frames of a job."""
        start_s = job.start_s + job.first_frame * self.frame_s
        first, last = (round((job.first_frame + frame) * self.frame_s / _TOKEN_S) for frame in (begin, end))
        if not start_s:
            return self._tokens[first:last]
        return tuple(
            Token(at, _TOKENS[at % len(_TOKENS)], job.start_s + at * _TOKEN_S, job.start_s + (at + 1) * _TOKEN_S, 0.99)
            for at in range(first, last)
        )


class _Features:
    """What `CudaBatching` asks of them."""

    hop_length = 160
    sample_rate_hz = 16_000

    def count(self, samples: int) -> int:
        return 1 + samples // self.hop_length


class H100:
    """How long that device takes for a batch of the 0.6 B model, and which batches it takes.

    Fitted to what was measured: 1 clip of 10 s 21 ms, 16 of them 40 ms, 32 of them 65 ms.
    """

    def __init__(self, slower: float = 1.0) -> None:
        """Take so many times as long."""
        from parakeet_service.adapters.parakeet_mlx.batching import CudaBatching  # noqa: PLC0415 - imports MLX

        parts: Any = (_Features(), None, None)
        self._batching = CudaBatching(*parts)
        self._slower = slower
        for batch in self._batching.prepare(None, longest_s=60, most=_MOST_ROWS):
            self._batching.shape(batch)

    def company(self, jobs: Sequence[EncoderJob], *, most: int) -> Sequence[int]:
        """See `Engine`."""
        return self._batching.company(jobs, most=most)

    def seconds(self, jobs: Sequence[EncoderJob]) -> float:
        """What a batch takes."""
        length, rows = self._batching.shape(jobs)
        return self._slower * max(_LEAST_S, _FIXED_S + _FRAME_COST_S * length * rows)


def _pace() -> H100 | None:
    asked = os.environ.get("NULL_ENGINE", "")
    return H100(1.0 if asked == "h100" else float(asked)) if asked else None


def container_of(settings: Settings) -> Container:
    """The service's own objects, on the null engine."""
    metrics = PrometheusMetrics()
    make = partial(
        EngineModel,
        partial(NullEngine, settings.target_sr, _pace()),
        sample_rate_hz=settings.target_sr,
        batch_size=settings.batch_size,
        most_streams=settings.max_streams,
    )
    model = (
        make(most_waiting=settings.max_queue, metrics=metrics)
        if settings.cluster == "none"
        else ray_model(
            partial(make, most_waiting=_NO_BOUND),
            cluster(settings, on_gpus=False),
            sample_rate_hz=settings.target_sr,
            batch_size=settings.batch_size,
            most_waiting=settings.max_queue,
            most_streams=settings.max_streams,
            metrics=metrics,
        )
    )
    return Container(settings=settings, metrics=providers.Object(metrics), model=providers.Object(model))


def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings()
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    container = container_of(settings)

    def build_app(*_: object) -> tuple[FastAPI, None]:
        collect_seldom()
        app = create_app(
            settings=settings,
            service=container.service(),
            metrics=container.metrics(),
            exposition=container.metrics().exposition,
            on_fatal=sys.exit,
        )
        return app, None

    def say(message: str, /, *, failed: bool = False) -> None:
        del failed
        print(message, file=sys.stderr, flush=True)

    serve(
        host=settings.host,
        port=settings.port,
        has_api_keys=bool(settings.api_keys),
        longest_idle_s=settings.stream_idle,
        build_app=build_app,
        say=say,
    )


if __name__ == "__main__":
    main()
