"""What is counted, in Prometheus's form; see its registry for the names, and their help for the meanings."""

import os
from collections import defaultdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, PlatformCollector, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import (
    MultiProcessCollector,
    mark_process_dead,  # pyright: ignore[reportUnknownVariableType]
)
from prometheus_client.process_collector import ProcessCollector

from ...application.ports.speech_model import ModelDescription

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SESSION_S = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600)
_WAIT_S = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_READ_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_JOB_S = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
_FACTOR = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_FILE_BYTES = 1 << 20
"""Ten times what the figures of one kind take."""
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class _ReservedFile(MmapedDict):
    """A file of figures whose room on the disk is taken beforehand.

    It is mapped into memory: to write where a full disk has no room for it would kill the process.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # noqa: FBT001, FBT002 - as there
        self._path = filename
        if not read_mode:
            Path(filename).touch()
            _reserve(filename, _FILE_BYTES)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        # More than one entry takes.
        if self._used + 2 * len(key.encode()) + 64 > self._capacity:
            _reserve(self._path, 2 * self._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]


def _reserve(filename: str, size: int) -> None:
    with open(filename, "r+b") as file:
        there = file.seek(0, os.SEEK_END)
        file.write(bytes(max(size - there, 0)))


def forget_process(pid: int, shared: Path) -> None:
    """Show no more what a process that has ended had open; what it has counted stays."""
    mark_process_dead(pid, str(shared))  # type: ignore[no-untyped-call]


class PrometheusMetrics:
    """Counts what it hears, and shows it to who asks; it has a registry of its own."""

    def __init__(self, *, shared: Path | None = None) -> None:
        """Begin at zero.

        Args:
            shared: A directory through which several processes count together: each of them shows what all have
                counted, and nothing of itself, such as its memory.
        """
        registry = self._registry = CollectorRegistry()
        self._shared = shared
        if shared is None:
            # Memory, processor time and open files; prometheus-client knows them on Linux alone.
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
        else:
            # As prometheus-client does it if this variable is there when it is imported, which is before our settings.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared)
            setattr(values, "MmapedDict", _ReservedFile)  # noqa: B010 - it exports no such name
            values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
        counter, gauge = (
            partial(Counter, registry=registry),
            partial(Gauge, registry=registry, multiprocess_mode="livesum"),
        )
        fact = partial(Gauge, registry=registry, multiprocess_mode="livemax")
        histogram = partial(Histogram, registry=registry)
        self._requests = histogram(
            "parakeet_http_request_duration_seconds",
            "Duration of HTTP requests, upload included.",
            ("method", "route", "status"),
            buckets=_REQUEST_S,
        )
        self._sessions = histogram(
            "parakeet_websocket_session_duration_seconds",
            "Duration of live sessions, by close code, or by HTTP status if refused.",
            ("route", "code"),
            buckets=_SESSION_S,
        )
        self._audio = counter("parakeet_audio_seconds", "Audio received.", ("source",), unit="seconds")
        self._factor = histogram(
            "parakeet_real_time_factor",
            "Processing time per second of audio, counted from the end of the upload.",
            buckets=_FACTOR,
        )
        self._uploads = gauge("parakeet_uploads", "Uploads in progress, by state.", ("state",))
        self._streams = gauge("parakeet_live_streams", "Open live sessions.")
        self._queue = gauge("parakeet_queue_depth", "Windows waiting for the model.")
        self._refused = counter("parakeet_windows_refused", "Windows refused because the queue was full.")
        self._waits = histogram(
            "parakeet_queue_wait_seconds",
            "Time that a window waited for the model.",
            ("source",),
            buckets=_WAIT_S,
        )
        self._batches = histogram("parakeet_batch_windows", "Windows per batch.", buckets=_BATCH)
        self._reading = histogram(
            "parakeet_batch_duration_seconds",
            "Processing time of a batch.",
            buckets=_READ_S,
        )
        self._read = counter(
            "parakeet_model_audio_seconds",
            "Audio processed by the model; overlaps and live context count again.",
        )
        self._model = fact(
            "parakeet_model_info",
            "1 for the loaded model.",
            ("id", "architecture", "precision", "compute", "device", "blas"),
        )
        self._jobs = gauge("parakeet_jobs", "Jobs that are stored, by status.", ("status",))
        self._jobs_ended = counter("parakeet_jobs_ended", "Jobs that ended on this server.", ("status",))
        self._job_audio = counter("parakeet_job_audio_seconds", "Audio of jobs that ended on this server.")
        self._job_times = histogram(
            "parakeet_job_duration_seconds", "Time from taking a job to its end.", buckets=_JOB_S
        )
        self._job_windows = counter(
            "parakeet_job_windows", "Windows of jobs: read, or known from before a restart.", ("source",)
        )
        self._webhooks = gauge("parakeet_webhooks", "Webhooks that are stored, by status.", ("status",))
        self._webhooks_sent = counter("parakeet_webhook_attempts", "Attempts to send a webhook.", ("outcome",))
        self._statuses: defaultdict[Gauge, set[str]] = defaultdict(set)  # that were counted
        self._workers = gauge("parakeet_cluster_workers", "Workers, by state: up, or wanted.", ("state",))
        self._lost = counter("parakeet_cluster_workers_lost", "Workers that died.")
        self._by_worker = counter(
            "parakeet_cluster_worker_audio_seconds", "Audio processed, by the worker's place.", ("worker",)
        )
        self._batches_by_worker = counter(
            "parakeet_cluster_worker_batches", "Batches processed, by the worker's place.", ("worker",)
        )
        build = fact("parakeet_build_info", "1 for the version of the service.", ("version",))
        build.labels(version("parakeet-service")).set(1)
        # So that what has not happened yet is seen as zero.
        for source in ("file", "live"):
            self._audio.labels(source)
            self._waits.labels(source)
        self.uploads_changed(receiving=0, held=0)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Everything so far, in the best form that `accept` names, and that form's media type."""
        encode, media_type = choose_encoder(accept)
        if self._shared is None:
            return encode(self._registry), media_type
        together = CollectorRegistry()
        MultiProcessCollector(together, path=str(self._shared))  # type: ignore[no-untyped-call]
        return encode(together), media_type

    def model_loaded(self, description: ModelDescription) -> None:
        """See the port."""
        self._model.labels(
            id=description.id,
            architecture=description.architecture,
            precision=description.precision,
            compute=description.compute,
            device=description.device,
            blas=description.blas or "",
        ).set(1)

    def queue_changed(self, *, depth: int) -> None:
        """See the port."""
        self._queue.set(depth)

    def window_refused(self) -> None:
        """See the port."""
        self._refused.inc()

    def window_began(self, *, live: bool, waited_s: float) -> None:
        """See the port."""
        self._waits.labels("live" if live else "file").observe(waited_s)

    def batch_read(self, *, size: int, audio_s: float, took_s: float) -> None:
        """See the port."""
        self._batches.observe(size)
        self._reading.observe(took_s)
        self._read.inc(audio_s)

    def streams_changed(self, *, open_now: int) -> None:
        """See the port."""
        self._streams.set(open_now)

    def workers_changed(self, *, up: int, wanted: int) -> None:
        """See the port."""
        self._workers.labels("up").set(up)
        self._workers.labels("wanted").set(wanted)

    def worker_lost(self) -> None:
        """See the port."""
        self._lost.inc()

    def worker_answered(self, *, worker: int, audio_s: float) -> None:
        """See the port."""
        self._batches_by_worker.labels(str(worker)).inc()
        self._by_worker.labels(str(worker)).inc(audio_s)

    def request_answered(self, *, method: str, route: str, status: int, took_s: float) -> None:
        """A request was answered; `route` is a template, for each value of a label is kept for ever."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).observe(took_s)

    def session_ended(self, *, route: str, code: int, took_s: float) -> None:
        """A live session ended with `code`."""
        self._sessions.labels(route, str(code)).observe(took_s)

    def recording_transcribed(self, *, audio_s: float, took_s: float) -> None:
        """See the port."""
        self._audio.labels("file").inc(audio_s)
        if audio_s > 0:
            self._factor.observe(took_s / audio_s)

    def live_session_ended(self, *, audio_s: float) -> None:
        """See the port."""
        self._audio.labels("live").inc(audio_s)

    def uploads_changed(self, *, receiving: int, held: int) -> None:
        """`held` uploads have a place, of which `receiving` are not complete."""
        self._uploads.labels("receiving").set(receiving)
        self._uploads.labels("answering").set(held - receiving)

    def job_ended(self, *, status: str, audio_s: float, took_s: float) -> None:
        """A job ended, so long after it was taken."""
        self._jobs_ended.labels(status).inc()
        self._job_audio.inc(audio_s)
        self._job_times.observe(took_s)

    def job_windows_known(self, number: int) -> None:
        """So many windows were read before, and are not read again."""
        self._job_windows.labels("known").inc(number)

    def job_window_read(self) -> None:
        """A window of a job was read."""
        self._job_windows.labels("read").inc()

    def webhook_sent(self, *, outcome: str) -> None:
        """An attempt ended."""
        self._webhooks_sent.labels(outcome).inc()

    def jobs_counted(self, jobs: dict[str, int], webhooks: dict[str, int]) -> None:
        """So many there are, by status."""
        for gauge, counts in ((self._jobs, jobs), (self._webhooks, webhooks)):
            # Not cleared, which processes that count together cannot do.
            self._statuses[gauge].update(counts)
            for status in self._statuses[gauge]:
                gauge.labels(status).set(counts.get(status, 0))
