"""What an entrypoint is given: the use-cases, and what it needs to run beside the others."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeAlias

from .drain import Drain
from .ports.metrics import TranscriptionMetrics
from .ports.quota import Quota
from .ports.speech_model import SpeechModel
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
        model: For its description; ready or not.
        quota: How much each caller may ask for: an entrypoint asks it to admit each request.
        metrics: Counts what live sessions hear; `transcribe_file` has its own.
        drain: Tells when the service shuts down, and waits for work in progress.
        lifecycle: Entered once by the entrypoint that owns the process.
    """

    transcribe_file: TranscribeFile
    stream_session: StreamSession
    model: SpeechModel
    quota: Quota
    metrics: TranscriptionMetrics
    drain: Drain
    lifecycle: Lifecycle
