"""What the commands need from the composition root."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeAlias

from ...application.ports.audio_decoder import AudioDecoder
from ...application.transcribe_file import TranscribeFile


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The service under one set of settings; nothing of it is built or loaded before it is asked for.

    Attributes:
        address: What `serve` binds, for people.
        free_address: The URL that `serve` would have; raises `OSError` where it cannot bind.
        changed_settings: Settings that differ from their defaults, by their environment names, secrets masked.
        facts: What this machine offers the service, by name, in the order in which they are to be asked for; one
            that raises a `FaultError` keeps the service from working.
        serve: Runs the servers until SIGTERM or SIGINT; gives whether all went well.
        audio_decoder: Makes what reads recordings; raises `DecoderUnavailableError` where there is none.
        open_transcriber: Loads the model, and frees it afterwards; raises `ModelLoadError`.
    """

    address: str
    free_address: Callable[[], str]
    changed_settings: Mapping[str, str]
    facts: Mapping[str, Callable[[], str]]
    serve: Callable[[], bool]
    audio_decoder: Callable[[], AudioDecoder]
    open_transcriber: Callable[[], AbstractAsyncContextManager[TranscribeFile]]


Configure: TypeAlias = Callable[[ArgumentParser], Callable[[Namespace], CommandContext]]
"""Gives a command's parser the flags of the settings, and gives back what makes the service of its result."""
