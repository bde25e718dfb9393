"""What the commands need from the composition root, and the codes that they exit with."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from fastapi import FastAPI

from ...application.ports.audio_decoder import AudioDecoder
from ...application.transcribe_file import TranscribeFile


class ExitCode(IntEnum):
    """What a finished command tells the shell."""

    DONE = 0
    FAULT = 1
    USAGE = 2
    UNREADABLE = 3
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Service:
    """The service under one set of settings; nothing of it is built or loaded before it is asked for.

    Attributes:
        host: Address to bind.
        port: Port to bind; 0 is any free one.
        has_api_keys: Whether callers must show a key.
        changed_settings: Settings that differ from their defaults, by their environment names, secrets masked.
        facts: What this machine offers the service, by name, in the order in which they are to be asked for; one
            that raises a `FaultError` keeps the service from working.
        build_app: Makes the web application; what it is given, it calls if it can never become ready.
        audio_decoder: Makes what reads recordings; raises `DecoderUnavailableError` where there is none.
        open_transcriber: Loads the model, and frees it afterwards; raises `ModelLoadError`.
    """

    host: str
    port: int
    has_api_keys: bool
    changed_settings: Mapping[str, str]
    facts: Mapping[str, Callable[[], str]]
    build_app: Callable[[Callable[[], None]], FastAPI]
    audio_decoder: Callable[[], AudioDecoder]
    open_transcriber: Callable[[], AbstractAsyncContextManager[TranscribeFile]]


Configure: TypeAlias = Callable[[ArgumentParser], Callable[[Namespace], Service]]
"""Gives a command's parser the flags of the settings, and gives back what makes the service of its result."""
