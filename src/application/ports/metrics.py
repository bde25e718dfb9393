"""The ports through which work is counted: the model's, and the use-cases'."""

from typing import Protocol

from .speech_model import ModelDescription


class ModelMetrics(Protocol):
    """Hears what happens to windows and streams, to count it.

    May be called from any thread, and from several at once. Every method returns at once and raises nothing.
    """

    def model_loaded(self, description: ModelDescription) -> None:
        """The model is ready."""
        ...

    def queue_changed(self, *, depth: int) -> None:
        """`depth` windows wait for the model now, those of live streams and those of recordings."""
        ...

    def window_refused(self) -> None:
        """A window was turned away: as many waited as may."""
        ...

    def window_began(self, *, live: bool, waited_s: float) -> None:
        """A window, of a live stream or of a recording, left the queue to be read."""
        ...

    def batch_read(self, *, size: int, audio_s: float, took_s: float) -> None:
        """The model was at work for `took_s` on `size` windows, with `audio_s` of audio in all of them together."""
        ...

    def streams_changed(self, *, open_now: int) -> None:
        """So many live streams are open now."""
        ...


class ClusterMetrics(ModelMetrics, Protocol):
    """Hears what happens to workers, too."""

    def workers_changed(self, *, up: int, wanted: int) -> None:
        """`up` workers take windows now, where there should be `wanted`."""
        ...

    def worker_lost(self) -> None:
        """A worker died."""
        ...

    def worker_answered(self, *, worker: int, audio_s: float) -> None:
        """The worker in place `worker`, counted from 0, has read a batch with so much audio."""
        ...


class TranscriptionMetrics(Protocol):
    """Counts what the use-cases did, whichever entrypoint asked. Every method returns at once and raises nothing."""

    def recording_transcribed(self, *, audio_s: float, took_s: float) -> None:
        """A recording was transcribed, `took_s` after the use-case was called."""
        ...

    def live_session_ended(self, *, audio_s: float) -> None:
        """A live session ended, in which `audio_s` of audio arrived."""
        ...


class NullMetrics:
    """Metrics that nobody reads."""

    def model_loaded(self, description: ModelDescription) -> None:
        """See the port."""

    def queue_changed(self, *, depth: int) -> None:
        """See the port."""

    def window_refused(self) -> None:
        """See the port."""

    def window_began(self, *, live: bool, waited_s: float) -> None:
        """See the port."""

    def batch_read(self, *, size: int, audio_s: float, took_s: float) -> None:
        """See the port."""

    def streams_changed(self, *, open_now: int) -> None:
        """See the port."""

    def workers_changed(self, *, up: int, wanted: int) -> None:
        """See the port."""

    def worker_lost(self) -> None:
        """See the port."""

    def worker_answered(self, *, worker: int, audio_s: float) -> None:
        """See the port."""

    def recording_transcribed(self, *, audio_s: float, took_s: float) -> None:
        """See the port."""

    def live_session_ended(self, *, audio_s: float) -> None:
        """See the port."""


NO_METRICS = NullMetrics()
