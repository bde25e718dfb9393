"""What an entrypoint is given: the use-cases, and what it needs to run beside the others."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeAlias

from .drain import Drain
from .live_codec import Channel, Codec, Received, Sent
from .live_loop import LiveLoop
from .ports.metrics import TranscriptionMetrics
from .ports.quota import Quota
from .ports.speech_model import SpeechModel
from .ports.web_client import WebClient
from .stream_session import StreamSession
from .transcribe_file import TranscribeFile

Lifecycle: TypeAlias = Callable[[], AbstractAsyncContextManager["asyncio.Task[None]"]]
"""Starts the service when entered, and stops it when left.

It yields a task that ends when the model is ready, or raises `ModelLoadError` where it never will be.
"""


@dataclass(frozen=True, slots=True)
class Service:
    """One service in one process, whatever entrypoints it has.

    Attributes:
        transcribe_file: Transcribes recordings.
        stream_session: Transcribes live audio.
        web: Opens URLs that callers give, as far as they are allowed.
        model: For its description; ready or not.
        quota: How much each caller may ask for: an entrypoint asks it to admit each request.
        metrics: Counts the audio of live sessions; `transcribe_file` has its own.
        drain: Tells when the service shuts down, and waits for work in progress.
        lifecycle: Entered once by the entrypoint that owns the process.
    """

    transcribe_file: TranscribeFile
    stream_session: StreamSession
    web: WebClient
    model: SpeechModel
    quota: Quota
    metrics: TranscriptionMetrics
    drain: Drain
    lifecycle: Lifecycle

    def live_loop(
        self,
        channel: Channel[Received, Sent],
        codec: Codec[Received, Sent],
        *,
        caller: str | None = None,
        longest_idle_s: float | None = None,
    ) -> LiveLoop[Received, Sent]:
        """The session of a live client that has just connected; see `LiveLoop`."""
        return LiveLoop(
            self.stream_session,
            self.drain,
            self.quota,
            self.metrics,
            channel,
            codec,
            caller=caller,
            longest_idle_s=longest_idle_s,
        )
